locals {
  uses_vpc        = var.database_ip_type != "PUBLIC"
  creates_network = local.uses_vpc && var.existing_network == ""

  network    = local.creates_network ? google_compute_network.etl[0].id : var.existing_network
  subnetwork = local.creates_network ? google_compute_subnetwork.etl[0].id : var.existing_subnetwork
}

resource "google_compute_network" "etl" {
  count = local.creates_network ? 1 : 0

  #checkov:skip=CKV2_GCP_18: No machine listens in it: a custom network refuses all ingress by itself, and only the function's egress uses it.
  project                 = var.project_id
  name                    = local.name
  auto_create_subnetworks = false

  depends_on = [google_project_service.required]
}

resource "google_compute_subnetwork" "etl" {
  count = local.creates_network ? 1 : 0

  project                  = var.project_id
  region                   = var.region
  name                     = local.name
  network                  = google_compute_network.etl[0].id
  ip_cidr_range            = var.subnetwork_cidr
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.5
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

# Private services access: the range that Google gives the instance its address from.
resource "google_compute_global_address" "private_services" {
  count = local.creates_network ? 1 : 0

  project       = var.project_id
  name          = "${local.name}-private-services"
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
  network       = google_compute_network.etl[0].id
}

resource "google_service_networking_connection" "private_services" {
  count = local.creates_network ? 1 : 0

  network                 = google_compute_network.etl[0].id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.private_services[0].name]
  # Google holds on to the peering for days after the instance is gone; it goes with the network.
  deletion_policy = "ABANDON"
}

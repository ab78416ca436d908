locals {
  apis = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "cloudbuild.googleapis.com",
      "cloudfunctions.googleapis.com",
      "cloudresourcemanager.googleapis.com",
      "cloudscheduler.googleapis.com",
      "iam.googleapis.com",
      "iamcredentials.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "sqladmin.googleapis.com",
      "storage.googleapis.com",
    ],
    var.enable_bigquery ? ["bigquery.googleapis.com"] : [],
    local.uses_vpc ? ["compute.googleapis.com"] : [],
    local.creates_network ? ["servicenetworking.googleapis.com"] : [],
  ))
}

# Never switched off again: something else in the project may have come to rely on them.
resource "google_project_service" "required" {
  for_each = local.apis

  project            = var.project_id
  service            = each.value
  disable_on_destroy = false
}

locals {
  bigquery_dataset = var.bigquery_dataset != "" ? var.bigquery_dataset : replace(var.prefix, "-", "_")
}

resource "google_bigquery_dataset" "etl" {
  count = var.enable_bigquery ? 1 : 0

  #checkov:skip=CKV_GCP_81: Encrypted with Google's keys; a key of one's own is an organisation's policy, set by its default key.
  project                    = var.project_id
  dataset_id                 = local.bigquery_dataset
  location                   = var.bigquery_location
  friendly_name              = "Veritix ETL (${local.name})"
  description                = "Ticket sales by event, and by event and day."
  delete_contents_on_destroy = var.bigquery_delete_contents_on_destroy

  depends_on = [google_project_service.required]
}

resource "google_bigquery_dataset_iam_member" "run_edits" {
  count = var.enable_bigquery ? 1 : 0

  project    = var.project_id
  dataset_id = google_bigquery_dataset.etl[0].dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = "serviceAccount:${google_service_account.run.email}"
}

# Jobs belong to a project, so the right to start them can't be narrower.
resource "google_project_iam_member" "run_queries" {
  count = var.enable_bigquery ? 1 : 0

  project = var.project_id
  role    = "roles/bigquery.jobUser"
  member  = "serviceAccount:${google_service_account.run.email}"
}

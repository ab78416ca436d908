locals {
  manages_token = var.nest_api_token_source == "managed"

  # projects/PROJECT/secrets/NAME, or null where the upstream needs no token.
  token_secret = {
    managed  = "projects/${var.project_id}/secrets/${local.name}-nest-api-token"
    existing = startswith(var.nest_api_token_existing_secret, "projects/") ? var.nest_api_token_existing_secret : "projects/${var.project_id}/secrets/${var.nest_api_token_existing_secret}"
    none     = null
  }[var.nest_api_token_source]
}

resource "google_secret_manager_secret" "token" {
  count = local.manages_token ? 1 : 0

  project   = var.project_id
  secret_id = basename(local.token_secret)

  replication {
    auto {}
  }

  depends_on = [google_project_service.required]
}

# Write-only: the token goes to Secret Manager and is in neither state nor plan.
resource "google_secret_manager_secret_version" "token" {
  count = local.manages_token ? 1 : 0

  secret                 = google_secret_manager_secret.token[0].id
  secret_data_wo         = var.nest_api_token
  secret_data_wo_version = var.nest_api_token_write_version
  # The version before is disabled, not destroyed: it can be enabled again.
  deletion_policy = "DISABLE"

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_secret_manager_secret_iam_member" "run_reads_token" {
  count = local.token_secret == null ? 0 : 1

  secret_id = local.manages_token ? google_secret_manager_secret.token[0].id : local.token_secret
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.run.email}"
}

# What is deployed: an archive of exactly these files, and the bucket that it lies in.

locals {
  root         = "${path.module}/.."
  source_files = setunion(["main.py", "requirements.txt"], fileset(local.root, "etl/**/*.py"), fileset(local.root, "etl/views/*.html"), fileset(local.root, "etl/views/static/*"))
}

# Built from names and contents alone, never from files on disk: the provider sorts the names and
# writes no time and no mode of a file, so the same contents are the same bytes on every machine.
data "archive_file" "source" {
  type        = "zip"
  output_path = "${path.module}/build/source.zip"

  dynamic "source" {
    for_each = local.source_files
    content {
      filename = source.value
      content  = file("${local.root}/${source.value}")
    }
  }
}

resource "google_storage_bucket" "source" {
  #checkov:skip=CKV_GCP_62: The bucket holds no data, only the function's code; Cloud Audit Logs record who changes it.
  name                        = "${var.project_id}-${local.name}-source"
  project                     = var.project_id
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  # Code comes from version control: what lies here may go with the bucket.
  force_destroy = true

  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      with_state                 = "ARCHIVED"
      days_since_noncurrent_time = var.source_retention_days
    }
  }

  depends_on = [google_project_service.required]
}

# The hash is in the name: the same source is the same object, and another source another deployment.
resource "google_storage_bucket_object" "source" {
  bucket       = google_storage_bucket.source.name
  name         = "source-${data.archive_file.source.output_sha256}.zip"
  source       = data.archive_file.source.output_path
  content_type = "application/zip"

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_service_account" "build" {
  project      = var.project_id
  account_id   = "${local.name}-build"
  display_name = "Builds the ${local.name} function"

  depends_on = [google_project_service.required]
}

resource "google_storage_bucket_iam_member" "build_reads_source" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_service_account.build.email}"
}

# Cloud Functions copies the archive into a bucket of its own before a build. That bucket does not
# exist before the first deployment, so it is named by a condition.
resource "google_project_iam_member" "build_reads_staged_source" {
  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = "serviceAccount:${google_service_account.build.email}"

  condition {
    title       = "function_sources_only"
    description = "Only the buckets in which Cloud Functions stages sources."
    expression  = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-\")"
  }
}

# On the project: Cloud Functions makes the repository gcf-artifacts with the first deployment, and
# Cloud Logging has no narrower resource to write to.
resource "google_project_iam_member" "build" {
  for_each = toset(["roles/artifactregistry.writer", "roles/logging.logWriter"])

  project = var.project_id
  role    = each.value
  member  = "serviceAccount:${google_service_account.build.email}"
}

# Grants take up to a minute to be seen everywhere, and a build that starts before fails.
resource "time_sleep" "build_grants" {
  create_duration = "60s"

  triggers = {
    account = google_service_account.build.email
  }

  depends_on = [
    google_project_iam_member.build,
    google_project_iam_member.build_reads_staged_source,
    google_storage_bucket_iam_member.build_reads_source,
  ]
}

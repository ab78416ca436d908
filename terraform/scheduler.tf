locals {
  # What cron can say evenly: minutes that divide an hour, hours that divide a day.
  even_intervals = [1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440]

  interval_hours = floor(var.etl_interval_minutes / 60)
  interval_cron = (
    var.etl_interval_minutes < 60 ? "*/${var.etl_interval_minutes} * * * *" :
    var.etl_interval_minutes < 1440 ? "0 */${local.interval_hours} * * *" : "0 0 * * *"
  )

  schedule             = var.etl_cron != "" ? var.etl_cron : local.interval_cron
  longest_gap_minutes  = var.etl_cron != "" ? var.etl_cron_longest_gap_minutes : var.etl_interval_minutes
  scheduler_time_zone  = var.scheduler_time_zone != "" ? var.scheduler_time_zone : var.etl_timezone
  function_service_uri = google_cloudfunctions2_function.etl.service_config[0].uri
}

resource "google_service_account" "invoke" {
  project      = var.project_id
  account_id   = "${local.name}-invoke"
  display_name = "Calls the ${local.name} function on schedule"

  depends_on = [google_project_service.required]
}

resource "google_cloud_run_v2_service_iam_member" "scheduler" {
  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.etl.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${google_service_account.invoke.email}"
}

resource "google_cloud_scheduler_job" "etl" {
  project          = var.project_id
  region           = var.region
  name             = local.name
  description      = "Runs the Veritix ETL"
  schedule         = local.schedule
  time_zone        = local.scheduler_time_zone
  paused           = !var.enable_etl_scheduler
  attempt_deadline = "${var.scheduler_attempt_deadline_seconds}s"

  # Repeating a run is harmless: totals are replaced, and the lease refuses a second run at once. The first retry comes
  # after the 90 s for which a killed run's lease outlives it.
  retry_config {
    retry_count          = var.scheduler_retry_count
    min_backoff_duration = "120s"
    max_backoff_duration = "600s"
    max_doublings        = 3
  }

  http_target {
    http_method = "POST"
    uri         = local.function_service_uri
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode("{}")

    oidc_token {
      service_account_email = google_service_account.invoke.email
      audience              = local.function_service_uri
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.scheduler]
}

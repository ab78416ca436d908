output "function_uri" {
  description = "Address of the function."
  value       = google_cloudfunctions2_function.etl.service_config[0].uri
}

output "run_command" {
  description = "Starts a run by hand. The caller needs run.invoker (var.invokers)."
  value       = "curl --fail-with-body -X POST -H \"Authorization: Bearer $(gcloud auth print-identity-token)\" -H 'Content-Type: application/json' -d '{}' ${google_cloudfunctions2_function.etl.service_config[0].uri}"
}

output "scheduler_job" {
  description = "Cloud Scheduler job that starts the runs."
  value       = google_cloud_scheduler_job.etl.id
}

output "schedule" {
  description = "Schedule of the runs, as cron says it."
  value       = "${google_cloud_scheduler_job.etl.schedule} (${google_cloud_scheduler_job.etl.time_zone})"
}

output "instance_connection_name" {
  description = "Cloud SQL instance that is loaded."
  value       = local.instance_connection_name
}

output "database_user" {
  description = "Run account as PostgreSQL names it."
  value       = google_sql_user.run.name
}

output "bigquery_dataset" {
  description = "Dataset that is loaded, PROJECT.DATASET; empty where BigQuery is off."
  value       = var.enable_bigquery ? "${var.project_id}.${google_bigquery_dataset.etl[0].dataset_id}" : ""
}

output "token_secret" {
  description = "Secret that the upstream's token is read from; empty where none is."
  value       = local.token_secret == null ? "" : local.token_secret
}

output "service_accounts" {
  description = "The three accounts, and what they are for."
  value = {
    build  = google_service_account.build.email
    run    = google_service_account.run.email
    invoke = google_service_account.invoke.email
  }
}

output "dashboard_url" {
  description = "The dashboard."
  value       = "https://console.cloud.google.com/monitoring/dashboards/builder/${basename(google_monitoring_dashboard.etl.id)}?project=${var.project_id}"
}

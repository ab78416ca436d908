# What is counted out of the function's log (docs/operations.md: log events), and who hears of it.

locals {
  # Every line of this function, in Cloud Logging's language. Filters are trimmed, as Google trims them: what came back
  # would be another filter at each plan.
  log_of_function = trimspace(<<-EOT
    resource.type="cloud_run_revision"
    resource.labels.service_name="${local.name}"
    resource.labels.location="${var.region}"
  EOT
  )

  # A run's last line. One that was refused because another is running is no run.
  log_of_finished_runs = trimspace(<<-EOT
    ${local.log_of_function}
    (jsonPayload.message="ETL job completed" OR jsonPayload.message="ETL job failed")
    NOT jsonPayload.code="already_running"
  EOT
  )
  log_of_loads = trimspace(<<-EOT
    ${local.log_of_function}
    jsonPayload.message="ETL load completed"
  EOT
  )

  # Metric -> what is counted. With a field, its values are summed up too (a distribution).
  metrics = {
    etl_jobs_total = {
      description = "Runs that ended, by status and error code."
      filter      = local.log_of_finished_runs
      field       = ""
      unit        = "1"
      labels      = { status = "How the run ended.", code = "Error code of a failed run." }
    }
    etl_job_duration_seconds = {
      description = "Duration of runs, by status."
      filter      = local.log_of_finished_runs
      field       = "duration_seconds"
      unit        = "s"
      labels      = { status = "How the run ended." }
    }
    etl_sales_read = {
      description = "Ticket sales that runs read."
      filter      = local.log_of_finished_runs
      field       = "sales_count"
      unit        = "1"
      labels      = {}
    }
    etl_records_rejected = {
      description = "Records that runs set aside as unusable."
      filter      = local.log_of_finished_runs
      field       = "rejected_count"
      unit        = "1"
      labels      = {}
    }
    etl_event_summary_rows = {
      description = "Rows of the event summary that runs loaded, by store."
      filter      = local.log_of_loads
      field       = "event_summary_count"
      unit        = "1"
      labels      = { database = "Store that was loaded." }
    }
    etl_daily_sales_rows = {
      description = "Rows of the daily sales that runs loaded, by store."
      filter      = local.log_of_loads
      field       = "daily_sales_count"
      unit        = "1"
      labels      = { database = "Store that was loaded." }
    }
  }

  # The metrics' names in PromQL, as Cloud Monitoring spells them.
  promql = {
    for name in keys(local.metrics) : name => "logging_googleapis_com:user_${replace(var.prefix, "-", "_")}_${name}"
  }
  promql_resource = "monitored_resource=\"cloud_run_revision\""

  notification_channels = concat(
    [for address in var.alert_emails : google_monitoring_notification_channel.email[address].name],
    var.alert_notification_channels,
  )
}

resource "google_logging_metric" "etl" {
  for_each = local.metrics

  project          = var.project_id
  name             = "${var.prefix}/${each.key}"
  description      = each.value.description
  filter           = each.value.field == "" ? each.value.filter : "${each.value.filter}\njsonPayload.${each.value.field}>=0"
  value_extractor  = each.value.field == "" ? null : "EXTRACT(jsonPayload.${each.value.field})"
  label_extractors = { for label, _ in each.value.labels : label => "EXTRACT(jsonPayload.${label})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = each.value.field == "" ? "INT64" : "DISTRIBUTION"
    unit        = each.value.unit

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key         = labels.key
        value_type  = "STRING"
        description = labels.value
      }
    }
  }

  # Seconds: doubling up to 4096. Counts: ten times each, as only their sums are looked at.
  dynamic "bucket_options" {
    for_each = each.value.field == "" ? [] : [each.value.unit == "s" ? { factor = 2, count = 12 } : { factor = 10, count = 9 }]
    content {
      exponential_buckets {
        scale              = 1
        growth_factor      = bucket_options.value.factor
        num_finite_buckets = bucket_options.value.count
      }
    }
  }

  depends_on = [google_project_service.required]
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_emails)

  project      = var.project_id
  type         = "email"
  display_name = "${local.name}: ${each.value}"
  labels       = { email_address = each.value }
  user_labels  = local.labels

  depends_on = [google_project_service.required]
}

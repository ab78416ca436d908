# When an alert goes out, and what it says. To whom: monitoring.tf.

locals {
  slow_run_seconds = floor(local.etl_deadline_seconds * var.alert_duration_ratio)

  # No success in one interval, for the rest of the intervals. In two parts, so that a new deployment
  # has time for its first run. Cloud Monitoring takes 25 hours for both together; a schedule with
  # longer gaps asks one long question instead.
  no_success_range_minutes = local.longest_gap_minutes <= 1440 ? local.longest_gap_minutes : local.longest_gap_minutes + 60
  no_success_wait_minutes = (
    local.longest_gap_minutes <= 1440
    ? min((var.alert_missed_runs - 1) * local.longest_gap_minutes, 1500 - local.longest_gap_minutes)
    : 0
  )
  no_success_minutes = local.no_success_range_minutes + local.no_success_wait_minutes

  # Alerts on a single line of the log: they need no metric, and name the very run.
  log_alerts = {
    failed = {
      title    = "a run failed"
      severity = "ERROR"
      filter   = <<-EOT
        ${local.log_of_function}
        severity>=ERROR
        jsonPayload.message="ETL job failed"
        NOT jsonPayload.code="already_running"
      EOT
      labels   = { code = "EXTRACT(jsonPayload.code)" }
      meaning  = "A run ended with the error `$${log.extracted_label.code}`. The stores hold what the run's last lines say, the old data at worst. Cloud Scheduler tries again up to ${var.scheduler_retry_count} times, and the next run heals what this one left."
      action   = "Look the code up in docs/operations.md (Answers) and do what it says. Nothing is to be done if a later run succeeded: the dashboard shows it."
    }
    slow = {
      title    = "a run took over ${floor(var.alert_duration_ratio * 100)} % of its deadline"
      severity = "WARNING"
      filter   = <<-EOT
        ${local.log_of_finished_runs}
        jsonPayload.duration_seconds>${local.slow_run_seconds}
      EOT
      labels   = {}
      meaning  = "A run took over ${local.slow_run_seconds} s; at ${local.etl_deadline_seconds} s it would have been ended (deadline_exceeded)."
      action   = "Compare the durations on the dashboard with the number of sales read. More sales: ask for larger pages (`nest_api_page_size`), more at once (`nest_api_concurrency`), or give it more CPU (`function_cpu`). As many as ever: see in the log's extract attempts whether the upstream has become slow."
    }
    rejects = {
      title    = "a run set over ${var.alert_rejected_records} records aside"
      severity = "WARNING"
      filter   = <<-EOT
        ${local.log_of_finished_runs}
        jsonPayload.rejected_count>${var.alert_rejected_records}
      EOT
      labels   = {}
      meaning  = "Records came that can't be used. They are missing from the totals, and kept with the reason."
      action   = "In PostgreSQL: `SELECT dataset, reason, count(*) FROM etl_rejected_records WHERE run_id = '...' GROUP BY 1, 2 ORDER BY 3 DESC` with the run id from the log line's label. Have them mended upstream; the next run reads them again. Over `etl_max_reject_ratio` (${var.etl_max_reject_ratio}) runs fail instead."
    }
  }

  # What every alert's documentation ends with: the query that shows the lines in question.
  log_queries = {
    for name, alert in merge(local.log_alerts, { no_success = { filter = local.log_of_finished_runs } }) : name => <<-EOT

      **Query** ([in the Logs Explorer](https://console.cloud.google.com/logs/query;query=${replace(urlencode(alert.filter), "+", "%20")}?project=${var.project_id})):

      ```
      ${trimspace(alert.filter)}
      ```
    EOT
  }
}

resource "google_monitoring_alert_policy" "log" {
  for_each = local.log_alerts

  project               = var.project_id
  display_name          = "${local.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.notification_channels
  user_labels           = local.labels

  conditions {
    display_name = each.value.title
    condition_matched_log {
      filter           = trimspace(each.value.filter)
      label_extractors = each.value.labels
    }
  }

  alert_strategy {
    auto_close = "86400s"
    notification_rate_limit {
      period = "1800s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "${local.name}: ${each.value.title}"
    content   = trimspace("**Means:** ${each.value.meaning}\n\n**Do:** ${each.value.action}\n${local.log_queries[each.key]}")
  }

  depends_on = [google_project_service.required]
}

# The dead man's switch: it needs no line to be logged, so it sees a paused job, a run that was killed,
# a function that doesn't start and a run that never was.
resource "google_monitoring_alert_policy" "no_success" {
  project               = var.project_id
  display_name          = "${local.name}: no successful run for ${local.no_success_minutes} minutes"
  combiner              = "OR"
  severity              = "CRITICAL"
  enabled               = var.enable_etl_scheduler
  notification_channels = local.notification_channels
  user_labels           = local.labels

  conditions {
    display_name = "no successful run for ${local.no_success_minutes} minutes"
    condition_prometheus_query_language {
      # `or vector(0)`: a metric that was never written has no series, and none is as bad as zero.
      query               = "(sum(increase(${local.promql.etl_jobs_total}{${local.promql_resource},status=\"success\"}[${local.no_success_range_minutes}m])) or vector(0)) < 0.5"
      duration            = "${local.no_success_wait_minutes * 60}s"
      evaluation_interval = local.no_success_range_minutes <= 1440 ? "60s" : "3600s"
      # A new metric takes minutes to be known, and this policy is made right after it.
      disable_metric_validation = true
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "${local.name}: no successful run for ${local.no_success_minutes} minutes"
    content = trimspace(<<-EOT
      **Means:** the stores are getting old: no run succeeded for ${local.no_success_minutes} minutes. Either runs fail (there is an alert on that too), or none is started, or they are killed before they can say so.

      **Do:** 1. Is the job on? `gcloud scheduler jobs describe ${local.name} --location=${var.region} --project=${var.project_id}` (state ENABLED; `gcloud scheduler jobs resume` if PAUSED, and find out who paused it). 2. Does it reach the function? Its log: `resource.type="cloud_scheduler_job"`; 403 means that `run.invoker` is missing, 429 that a run holds the only instance. 3. Does the function start? Look for `severity>=ERROR` in its log: out of memory, failed revision. 4. Start one by hand: `gcloud scheduler jobs run ${local.name} --location=${var.region} --project=${var.project_id}`.
      ${local.log_queries["no_success"]}
    EOT
    )
  }

  depends_on = [google_logging_metric.etl]
}

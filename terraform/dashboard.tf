locals {
  by_filter = {
    memory      = { title = "Memory used (share, 99th percentile)", type = "run.googleapis.com/container/memory/utilizations", resource = "cloud_run_revision", aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX" }
    instances   = { title = "Instances", type = "run.googleapis.com/container/instance_count", resource = "cloud_run_revision", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM" }
    cpu         = { title = "Database: CPU (share)", type = "cloudsql.googleapis.com/database/cpu/utilization", resource = "cloudsql_database", aligner = "ALIGN_MEAN", reducer = "REDUCE_MEAN" }
    connections = { title = "Database: connections", type = "cloudsql.googleapis.com/database/postgresql/num_backends", resource = "cloudsql_database", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM" }
  }
  resource_filter = {
    cloud_run_revision = "resource.type=\"cloud_run_revision\" resource.label.\"service_name\"=\"${local.name}\""
    cloudsql_database  = "resource.type=\"cloudsql_database\" resource.label.\"database_id\"=\"${local.instance_project}:${local.instance}\""
  }

  # Charts out of the log-based metrics: title, the lines (legend -> PromQL), a threshold.
  by_promql = {
    runs = {
      title     = "Runs by status"
      lines     = { "$${status} $${code}" = "sum by (status, code) (increase(${local.promql.etl_jobs_total}{${local.promql_resource}}[$${__interval}]))" }
      threshold = []
    }
    duration = {
      title = "Duration of runs (s), and their deadline"
      lines = {
        "95th percentile" = "histogram_quantile(0.95, sum by (le) (increase(${local.promql.etl_job_duration_seconds}_bucket{${local.promql_resource}}[$${__interval}])))"
        "mean"            = "sum(increase(${local.promql.etl_job_duration_seconds}_sum{${local.promql_resource}}[$${__interval}])) / sum(increase(${local.promql.etl_job_duration_seconds}_count{${local.promql_resource}}[$${__interval}]))"
      }
      threshold = [{ label = "deadline", value = local.etl_deadline_seconds }]
    }
    records = {
      title = "Records read and set aside"
      lines = {
        "ticket sales" = "sum(increase(${local.promql.etl_sales_read}_sum{${local.promql_resource}}[$${__interval}]))"
        "rejected"     = "sum(increase(${local.promql.etl_records_rejected}_sum{${local.promql_resource}}[$${__interval}]))"
      }
      threshold = []
    }
    rows = {
      title = "Rows loaded, by store"
      lines = {
        "$${database}: events" = "sum by (database) (increase(${local.promql.etl_event_summary_rows}_sum{${local.promql_resource}}[$${__interval}]))"
        "$${database}: days"   = "sum by (database) (increase(${local.promql.etl_daily_sales_rows}_sum{${local.promql_resource}}[$${__interval}]))"
      }
      threshold = []
    }
  }

  promql_charts = {
    for name, chart in local.by_promql : name => {
      title = chart.title
      xyChart = { for key, value in {
        dataSets = [for legend, query in chart.lines : {
          plotType        = name == "runs" ? "STACKED_BAR" : "LINE"
          legendTemplate  = legend
          timeSeriesQuery = { prometheusQuery = query }
        }]
        thresholds = chart.threshold
      } : key => value if length(value) > 0 }
    }
  }
  filter_charts = {
    for name, chart in local.by_filter : name => {
      title = chart.title
      xyChart = {
        dataSets = [{
          plotType = "LINE"
          timeSeriesQuery = {
            timeSeriesFilter = {
              filter      = "metric.type=\"${chart.type}\" ${local.resource_filter[chart.resource]}"
              aggregation = { alignmentPeriod = "60s", perSeriesAligner = chart.aligner, crossSeriesReducer = chart.reducer }
            }
          }
        }]
      }
    }
  }

  # Two charts a row, in this order. As text, because a list's elements must be of one type.
  charts = concat(
    [for name in ["runs", "duration", "records", "rows"] : jsonencode(local.promql_charts[name])],
    [for name in ["memory", "instances", "cpu", "connections"] : jsonencode(local.filter_charts[name])],
  )
}

# Nothing in it is 0 or empty: Google leaves that out, and what came back would be another dashboard at each plan.
resource "google_monitoring_dashboard" "etl" {
  project = var.project_id
  dashboard_json = jsonencode({
    displayName = "Veritix ETL (${local.name})"
    mosaicLayout = {
      columns = 48
      tiles = concat(
        [for place, chart in local.charts : { for key, value in {
          xPos   = place % 2 * 24
          yPos   = floor(place / 2) * 16
          width  = 24
          height = 16
          widget = jsondecode(chart)
        } : key => value if value != 0 }],
        [{
          yPos   = ceil(length(local.charts) / 2) * 16
          width  = 48
          height = 20
          widget = {
            title = "Failures"
            logsPanel = {
              filter        = "${local.log_of_function}\nseverity>=ERROR"
              resourceNames = ["projects/${var.project_id}"]
            }
          }
        }],
      )
    }
  })

  depends_on = [google_project_service.required]
}

locals {
  # Ends the run cleanly, with an answer, before the platform would cut it off.
  etl_deadline_seconds = var.function_timeout_seconds - 30

  keeps_sales = var.etl_sales_store != "none"

  # The settings of etl/settings.py; null means: not set.
  function_environment = {
    NEST_API_BASE_URL        = var.nest_api_base_url
    NEST_API_TOKEN_SECRET    = local.token_secret == null ? null : "${local.token_secret}/versions/${var.nest_api_token_read_version}"
    NEST_API_PAGE_SIZE       = var.nest_api_page_size == 0 ? null : var.nest_api_page_size
    NEST_API_CONCURRENCY     = var.nest_api_concurrency
    NEST_API_MAX_PAGES       = var.nest_api_max_pages
    NEST_API_TIMEOUT_SECONDS = var.nest_api_timeout_seconds
    NEST_API_LINK_ORIGINS    = length(var.nest_api_link_origins) == 0 ? null : join(",", var.nest_api_link_origins)

    INSTANCE_CONNECTION_NAME = local.instance_connection_name
    DB_NAME                  = var.database_name
    DB_USER                  = google_sql_user.run.name
    DB_IAM_AUTH              = true
    DB_IP_TYPE               = var.database_ip_type

    BQ_ENABLED             = var.enable_bigquery
    BQ_PROJECT_ID          = var.enable_bigquery ? var.project_id : null
    BQ_DATASET             = var.enable_bigquery ? local.bigquery_dataset : null
    BQ_LOCATION            = var.enable_bigquery ? var.bigquery_location : null
    BQ_TABLE_EVENT_SUMMARY = var.enable_bigquery ? var.bigquery_table_event_summary : null
    BQ_TABLE_DAILY_SALES   = var.enable_bigquery ? var.bigquery_table_daily_sales : null
    BQ_TABLE_TICKET_SALES  = var.enable_bigquery ? var.bigquery_table_ticket_sales : null
    BQ_PARTITION_BY        = var.enable_bigquery ? var.bigquery_partition_by : null
    BQ_WRITE_MODE          = var.enable_bigquery ? var.bigquery_write_mode : null

    ETL_SALES_STORE         = var.etl_sales_store
    NEST_API_CHANGED_QUERY  = local.keeps_sales && var.nest_api_changed_query != "" ? var.nest_api_changed_query : null
    NEST_API_CHANGED_FIELD  = local.keeps_sales && var.nest_api_changed_field != "" ? var.nest_api_changed_field : null
    NEST_API_CHANGED_FORMAT = local.keeps_sales ? var.nest_api_changed_format : null
    ETL_LOOKBACK_SECONDS    = local.keeps_sales ? var.etl_lookback_seconds : null
    ETL_SWEEP_HOURS         = local.keeps_sales ? var.etl_sweep_hours : null
    ETL_MAX_UNPROVED_RATIO  = local.keeps_sales ? var.etl_max_unproved_ratio : null

    ETL_TIMEZONE         = var.etl_timezone
    ETL_MAX_REJECT_RATIO = var.etl_max_reject_ratio
    ETL_MAX_SHRINK_RATIO = var.etl_max_shrink_ratio
    ETL_RETENTION_DAYS   = var.etl_retention_days
    ETL_DEADLINE_SECONDS = local.etl_deadline_seconds
    LOG_LEVEL            = var.log_level
    GOOGLE_CLOUD_PROJECT = var.project_id
  }
}

resource "google_service_account" "run" {
  project      = var.project_id
  account_id   = "${local.name}-run"
  display_name = "Runs the ${local.name} function"

  depends_on = [google_project_service.required]
}

resource "google_cloudfunctions2_function" "etl" {
  #checkov:skip=CKV_GCP_124: An operator's curl and Cloud Scheduler must reach it; IAM refuses everyone without run.invoker (function_ingress closes it further).
  project     = var.project_id
  name        = local.name
  location    = var.region
  description = "Veritix ETL: ticket sales into PostgreSQL${var.enable_bigquery ? " and BigQuery" : ""}"

  build_config {
    runtime         = "python313"
    entry_point     = "run_etl"
    service_account = google_service_account.build.name

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    available_memory                 = var.function_memory
    available_cpu                    = var.function_cpu
    timeout_seconds                  = var.function_timeout_seconds
    min_instance_count               = 0
    max_instance_count               = 1 # one run at a time; the lease in the database guards the rest
    max_instance_request_concurrency = var.function_concurrency
    ingress_settings                 = var.function_ingress
    all_traffic_on_latest_revision   = true
    service_account_email            = google_service_account.run.email
    environment_variables            = { for name, value in local.function_environment : name => tostring(value) if value != null }
    direct_vpc_egress                = local.uses_vpc ? "VPC_EGRESS_PRIVATE_RANGES_ONLY" : null

    dynamic "direct_vpc_network_interface" {
      for_each = local.uses_vpc ? [local.subnetwork] : []
      content {
        network    = local.network
        subnetwork = direct_vpc_network_interface.value
      }
    }
  }

  # What the first run needs stands before the function does.
  depends_on = [
    google_bigquery_dataset_iam_member.run_edits,
    google_project_iam_member.run_connects,
    google_project_iam_member.run_queries,
    google_secret_manager_secret_iam_member.run_reads_token,
    google_secret_manager_secret_version.token,
    google_sql_database.etl,
    time_sleep.build_grants,
  ]
}

# On the service, which has the function's name. Nobody else may call it, and nothing is public.
resource "google_cloud_run_v2_service_iam_member" "invokers" {
  for_each = toset(var.invokers)

  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.etl.name
  role     = "roles/run.invoker"
  member   = each.value
}

# Every validation refuses its bad values. A plan holds one bad value for each of many variables, as a
# plan takes a second or two; a validation that looks at another variable needs that one to be good.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}
mock_provider "archive" {}
mock_provider "time" {}

variables {
  project_id        = "veritix-test"
  region            = "europe-west3"
  nest_api_base_url = "https://api.example.com"
  nest_api_token    = "a-token-for-tests"
}

run "what_is_wrong_by_itself" {
  command = plan

  variables {
    project_id                         = "Veritix Production"
    region                             = "europe-west3-a"
    prefix                             = "veritix_dev"
    labels                             = { "Cost Centre" = "42" }
    nest_api_page_size                 = -1
    nest_api_concurrency               = 65
    nest_api_max_pages                 = 0
    nest_api_timeout_seconds           = 0
    nest_api_link_origins              = ["http://10.0.0.5:3000/v1"]
    nest_api_token_source              = "vault"
    nest_api_token_write_version       = 0
    nest_api_token_read_version        = "newest"
    nest_api_changed_query             = "updated_after="
    nest_api_changed_field             = " updatedAt"
    nest_api_changed_format            = "rfc"
    etl_lookback_seconds               = 0
    etl_sweep_hours                    = -1
    etl_max_unproved_ratio             = 2
    etl_timezone                       = "GMT+1"
    etl_max_reject_ratio               = 5
    etl_max_shrink_ratio               = -0.1
    etl_retention_days                 = 0.5
    log_level                          = "WARNING"
    function_memory                    = "64Mi"
    function_cpu                       = "3"
    function_ingress                   = "INTERNAL"
    invokers                           = ["allUsers"]
    source_retention_days              = 0
    etl_cron                           = "75 6 * * *"
    scheduler_time_zone                = "Berlin time"
    scheduler_attempt_deadline_seconds = 1801
    scheduler_retry_count              = 6
    existing_instance_connection_name  = "main"
    database_name                      = "postgres"
    database_version                   = "POSTGRES_14"
    database_tier                      = "db-n1-standard-1"
    database_disk_limit_gb             = 5
    database_backups                   = 1
    database_instance_name             = "Veritix"
    subnetwork_cidr                    = "10.8.0.0/28"
    bigquery_dataset                   = "veritix-dev"
    bigquery_location                  = "Frankfurt"
    bigquery_table_event_summary       = "event.summary"
    bigquery_write_mode                = "append"
    bigquery_partition_by              = "hour"
    alert_emails                       = ["Jo Doe <jo@example.com>"]
    alert_notification_channels        = ["123"]
    alert_missed_runs                  = 1
    alert_duration_ratio               = 80
    alert_rejected_records             = -1
  }

  expect_failures = [
    var.project_id, var.region, var.prefix, var.labels,
    var.nest_api_page_size, var.nest_api_concurrency, var.nest_api_max_pages, var.nest_api_timeout_seconds, var.nest_api_link_origins,
    var.nest_api_token_source, var.nest_api_token_write_version, var.nest_api_token_read_version,
    var.nest_api_changed_query, var.nest_api_changed_field, var.nest_api_changed_format,
    var.etl_lookback_seconds, var.etl_sweep_hours, var.etl_max_unproved_ratio,
    var.etl_timezone, var.etl_max_reject_ratio, var.etl_max_shrink_ratio, var.etl_retention_days, var.log_level,
    var.function_memory, var.function_cpu, var.function_ingress, var.invokers, var.source_retention_days,
    var.etl_cron, var.scheduler_time_zone, var.scheduler_attempt_deadline_seconds, var.scheduler_retry_count,
    var.existing_instance_connection_name, var.database_name, var.database_version, var.database_tier, var.database_disk_limit_gb,
    var.database_backups, var.database_instance_name, var.subnetwork_cidr,
    var.bigquery_dataset, var.bigquery_location, var.bigquery_table_event_summary, var.bigquery_write_mode,
    var.bigquery_partition_by,
    var.alert_emails, var.alert_notification_channels, var.alert_missed_runs, var.alert_duration_ratio, var.alert_rejected_records,
  ]
}

run "what_is_wrong_beside_others" {
  command = plan

  variables {
    region                         = "EU"
    prefix                         = "veritix-development1"                # too long for an account's name
    nest_api_base_url              = "https://user:secret@api.example.com" # a secret in an address
    nest_api_token                 = ""                                    # managed, but not given
    nest_api_token_existing_secret = "nest-token"                          # but the source is managed
    function_timeout_seconds       = 30
    function_concurrency           = 0
    invokers                       = ["user:jo@example.com", "allAuthenticatedUsers"]
    etl_interval_minutes           = 45
    etl_cron_longest_gap_minutes   = 60 # without a cron
    database_tier                  = "db-custom-2-7000"
    database_ip_type               = "PSC" # of an instance made here
    subnetwork_cidr                = "10.8.0.7/26"
    bigquery_table_daily_sales     = "daily sales"
    etl_sales_store                = "mysql"
  }

  expect_failures = [
    var.region, var.prefix, var.nest_api_base_url, var.nest_api_token, var.nest_api_token_existing_secret, var.function_timeout_seconds,
    var.function_concurrency, var.invokers, var.etl_interval_minutes, var.etl_cron_longest_gap_minutes, var.database_tier,
    var.database_ip_type, var.subnetwork_cidr, var.bigquery_table_daily_sales, var.etl_sales_store,
  ]
}

run "what_does_not_fit_together" {
  command = plan

  variables {
    nest_api_base_url                  = "http://api.example.com" # a token over plain HTTP
    nest_api_token                     = "a-token\n"
    function_timeout_seconds           = 601
    scheduler_attempt_deadline_seconds = 600
    function_cpu                       = "0.583"
    function_concurrency               = 2 # with less than a CPU
    invokers                           = ["domain:example.com"]
    etl_interval_minutes               = 90
    existing_instance_connection_name  = "shared-sql:europe-west1:main" # without its network, and with cloudsqlsuperuser
    bigquery_table_daily_sales         = "event_sales_summary"
    bigquery_write_mode                = "stream"
    etl_sales_store                    = "postgres" # whose sums replace what is there
  }

  expect_failures = [
    var.nest_api_base_url, var.nest_api_token, var.function_timeout_seconds, var.function_concurrency, var.invokers,
    var.etl_interval_minutes, var.existing_network, var.database_roles, var.bigquery_table_daily_sales,
    var.etl_sales_store,
  ]
}

run "kept_sales_without_their_store" {
  command = plan

  variables {
    enable_bigquery             = false
    etl_sales_store             = "bigquery"
    bigquery_table_ticket_sales = "daily_ticket_sales"
  }

  expect_failures = [var.etl_sales_store, var.bigquery_table_ticket_sales]
}

run "halves_of_pairs" {
  command = plan

  variables {
    nest_api_base_url           = "https://api.example.com/v1?key=1"
    nest_api_token_source       = "existing"                                 # without a secret
    etl_cron                    = "30 6 * * *"                               # without its longest gap
    existing_network            = "projects/shared-vpc/global/networks/main" # without a subnetwork
    bigquery_table_ticket_sales = "ticket-sales"
  }

  expect_failures = [
    var.nest_api_base_url, var.nest_api_token_existing_secret, var.etl_cron_longest_gap_minutes, var.existing_subnetwork,
    var.bigquery_table_ticket_sales,
  ]
}

run "names_of_another_form" {
  command = plan

  variables {
    nest_api_token_source          = "existing"
    nest_api_token_existing_secret = "projects/p/secrets/nest-token/versions/1"
    etl_cron                       = "30 6 1 1 *"
    etl_cron_longest_gap_minutes   = 525600
    existing_network               = "projects/shared-vpc/global/networks/main"
    existing_subnetwork            = "default"
  }

  expect_failures = [var.nest_api_token_existing_secret, var.etl_cron_longest_gap_minutes, var.existing_subnetwork]
}

run "interval_of_nothing" {
  command = plan

  variables {
    etl_interval_minutes = 0
    existing_network     = "default"
  }

  expect_failures = [var.etl_interval_minutes, var.existing_network]
}

run "interval_beyond_a_day" {
  command = plan

  variables {
    etl_interval_minutes = 2880
    database_ip_type     = "private"
  }

  expect_failures = [var.etl_interval_minutes, var.database_ip_type]
}

run "cron_of_four_fields" {
  command = plan

  variables {
    etl_cron = "30 6 * *"
  }

  expect_failures = [var.etl_cron]
}

run "cron_in_words" {
  command = plan

  variables {
    etl_cron = "every 15 minutes of hour"
  }

  expect_failures = [var.etl_cron]
}

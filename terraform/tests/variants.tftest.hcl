# What each switch changes.

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

run "bigquery_off" {
  command = plan

  variables {
    enable_bigquery = false
  }

  assert {
    condition     = length(google_bigquery_dataset.etl) == 0 && length(google_bigquery_dataset_iam_member.run_edits) == 0 && length(google_project_iam_member.run_queries) == 0
    error_message = "Nothing of BigQuery may be made or granted."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].environment_variables["BQ_ENABLED"] == "false" && !contains(keys(google_cloudfunctions2_function.etl.service_config[0].environment_variables), "BQ_PROJECT_ID")
    error_message = "The function must not load BigQuery."
  }
  assert {
    condition     = !contains(keys(google_project_service.required), "bigquery.googleapis.com") && output.bigquery_dataset == ""
    error_message = "BigQuery's API isn't needed then."
  }
}

run "sales_kept_in_bigquery" {
  command = plan

  variables {
    etl_sales_store             = "bigquery"
    bigquery_table_ticket_sales = "kept_sales"
    bigquery_partition_by       = "month"
    nest_api_changed_query      = "updated_after={since}"
  }

  assert {
    condition = [
      for name in ["ETL_SALES_STORE", "BQ_ENABLED", "BQ_TABLE_TICKET_SALES", "BQ_PARTITION_BY", "BQ_WRITE_MODE", "NEST_API_CHANGED_QUERY"] :
      google_cloudfunctions2_function.etl.service_config[0].environment_variables[name]
    ] == ["bigquery", "true", "kept_sales", "month", "merge", "updated_after={since}"]
    error_message = "The function must keep the sales in BigQuery."
  }
  assert {
    condition     = google_bigquery_dataset_iam_member.run_edits[0].role == "roles/bigquery.dataEditor" && google_bigquery_dataset_iam_member.run_edits[0].dataset_id == "veritix" && google_project_iam_member.run_queries[0].role == "roles/bigquery.jobUser"
    error_message = "Kept sales need the rights that the summaries need, and no other."
  }
}

run "existing_instance" {
  command = plan

  variables {
    existing_instance_connection_name = "shared-sql:europe-west1:main"
    existing_network                  = "projects/shared-vpc/global/networks/main"
    existing_subnetwork               = "projects/shared-vpc/regions/europe-west3/subnetworks/functions"
    database_roles                    = ["veritix_etl"]
  }

  assert {
    condition     = length(google_sql_database_instance.etl) == 0 && length(google_sql_database.etl) == 0 && length(google_compute_network.etl) == 0
    error_message = "Nothing may be made that exists."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].environment_variables["INSTANCE_CONNECTION_NAME"] == "shared-sql:europe-west1:main"
    error_message = "The function must connect to the given instance."
  }
  assert {
    condition     = google_sql_user.run.project == "shared-sql" && google_sql_user.run.instance == "main" && google_sql_user.run.database_roles == tolist(["veritix_etl"])
    error_message = "The run account must be a user of the given instance."
  }
  assert {
    condition     = alltrue([for grant in google_project_iam_member.run_connects : grant.project == "shared-sql" && strcontains(grant.condition[0].expression, "projects/shared-sql/instances/main")])
    error_message = "The grants belong to the instance's project, and to the instance alone."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].direct_vpc_network_interface[0].network == "projects/shared-vpc/global/networks/main" && google_cloudfunctions2_function.etl.service_config[0].direct_vpc_network_interface[0].subnetwork == "projects/shared-vpc/regions/europe-west3/subnetworks/functions"
    error_message = "The function must reach the instance through the given network."
  }
}

run "private_service_connect" {
  command = plan

  variables {
    existing_instance_connection_name = "shared-sql:europe-west1:main"
    existing_network                  = "projects/shared-vpc/global/networks/main"
    existing_subnetwork               = "projects/shared-vpc/regions/europe-west3/subnetworks/functions"
    database_ip_type                  = "PSC"
    database_roles                    = []
  }

  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].environment_variables["DB_IP_TYPE"] == "PSC" && length(google_cloudfunctions2_function.etl.service_config[0].direct_vpc_network_interface) == 1
    error_message = "Private Service Connect goes through the VPC."
  }
}

run "existing_network" {
  command = plan

  variables {
    existing_network    = "projects/shared-vpc/global/networks/main"
    existing_subnetwork = "projects/shared-vpc/regions/europe-west3/subnetworks/functions"
  }

  assert {
    condition     = length(google_compute_network.etl) == 0 && length(google_compute_subnetwork.etl) == 0 && length(google_service_networking_connection.private_services) == 0
    error_message = "A given network must not be touched."
  }
  assert {
    condition     = google_sql_database_instance.etl[0].settings[0].ip_configuration[0].private_network == "projects/shared-vpc/global/networks/main"
    error_message = "The instance must have its address in the given network."
  }
}

run "existing_secret" {
  command = plan

  variables {
    nest_api_token                 = ""
    nest_api_token_source          = "existing"
    nest_api_token_existing_secret = "projects/secrets-prod/secrets/nest-token"
    nest_api_token_read_version    = "3"
  }

  assert {
    condition     = length(google_secret_manager_secret.token) == 0 && length(google_secret_manager_secret_version.token) == 0
    error_message = "No secret may be made beside the given one."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].environment_variables["NEST_API_TOKEN_SECRET"] == "projects/secrets-prod/secrets/nest-token/versions/3"
    error_message = "The function must read the pinned version of the given secret."
  }
  assert {
    condition     = google_secret_manager_secret_iam_member.run_reads_token[0].secret_id == "projects/secrets-prod/secrets/nest-token"
    error_message = "The run account must be able to read the given secret."
  }
}

run "existing_secret_of_this_project" {
  command = plan

  variables {
    nest_api_token                 = ""
    nest_api_token_source          = "existing"
    nest_api_token_existing_secret = "nest-token"
  }

  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].environment_variables["NEST_API_TOKEN_SECRET"] == "projects/veritix-test/secrets/nest-token/versions/latest"
    error_message = "A bare name is a secret of this project."
  }
}

run "no_token" {
  command = plan

  variables {
    nest_api_base_url     = "http://10.0.0.5:3000"
    nest_api_token        = ""
    nest_api_token_source = "none"
  }

  assert {
    condition     = length(google_secret_manager_secret_iam_member.run_reads_token) == 0 && !contains(keys(google_cloudfunctions2_function.etl.service_config[0].environment_variables), "NEST_API_TOKEN_SECRET")
    error_message = "Without a token there is no secret, and nothing to grant."
  }
}

run "rolled_token" {
  command = plan

  variables {
    nest_api_token_write_version = 2
  }

  assert {
    condition     = tostring(google_secret_manager_secret_version.token[0].secret_data_wo_version) == "2" # a number, from 8.0 on a string
    error_message = "Counting up must write a new version."
  }
}

run "public_address" {
  command = plan

  variables {
    database_ip_type = "PUBLIC"
  }

  assert {
    condition     = google_sql_database_instance.etl[0].settings[0].ip_configuration[0].ipv4_enabled && length(google_sql_database_instance.etl[0].settings[0].ip_configuration[0].authorized_networks) == 0 && google_sql_database_instance.etl[0].settings[0].connector_enforcement == "REQUIRED"
    error_message = "A public address may authorise no network, and must take connectors only."
  }
  assert {
    condition     = length(google_compute_network.etl) == 0 && length(google_cloudfunctions2_function.etl.service_config[0].direct_vpc_network_interface) == 0
    error_message = "A public address needs no network."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].environment_variables["DB_IP_TYPE"] == "PUBLIC"
    error_message = "The function must connect to the public address."
  }
}

run "scheduler_off" {
  command = plan

  variables {
    enable_etl_scheduler = false
  }

  assert {
    condition     = google_cloud_scheduler_job.etl.paused
    error_message = "The job must be paused."
  }
  assert {
    condition     = google_monitoring_alert_policy.no_success.enabled == false
    error_message = "Runs that nobody wants are not missing."
  }
}

run "cron_over_interval" {
  command = plan

  variables {
    etl_cron                     = "30 6 * * 1-5"
    etl_cron_longest_gap_minutes = 4320
    etl_interval_minutes         = 45
    etl_timezone                 = "Africa/Lagos"
  }

  assert {
    condition     = google_cloud_scheduler_job.etl.schedule == "30 6 * * 1-5" && google_cloud_scheduler_job.etl.time_zone == "Africa/Lagos"
    error_message = "etl_cron must win over the interval, even one that cron can't say."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.no_success.conditions[0].condition_prometheus_query_language[0].query, "[4380m]") && google_monitoring_alert_policy.no_success.conditions[0].condition_prometheus_query_language[0].duration == "0s"
    error_message = "The dead man's switch must outlast the weekend."
  }
}

run "interval_of_hours" {
  command = plan

  variables {
    etl_interval_minutes = 360
    scheduler_time_zone  = "Europe/Berlin"
  }

  assert {
    condition     = google_cloud_scheduler_job.etl.schedule == "0 */6 * * *" && google_cloud_scheduler_job.etl.time_zone == "Europe/Berlin"
    error_message = "Six hours must be said in hours."
  }
}

run "interval_of_a_day" {
  command = plan

  variables {
    etl_interval_minutes = 1440
  }

  assert {
    condition     = google_cloud_scheduler_job.etl.schedule == "0 0 * * *"
    error_message = "A day is once a day."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.no_success.conditions[0].condition_prometheus_query_language[0].query, "[1440m]") && google_monitoring_alert_policy.no_success.conditions[0].condition_prometheus_query_language[0].duration == "3600s"
    error_message = "Range and wait together must stay within 25 hours."
  }
}

run "second_environment" {
  command = plan

  variables {
    prefix                       = "veritix-dev"
    alert_emails                 = ["data@example.com"]
    alert_notification_channels  = ["projects/veritix-test/notificationChannels/123"]
    invokers                     = ["user:jo@example.com", "group:data@example.com"]
    database_deletion_protection = false
    database_high_availability   = true
    nest_api_page_size           = 1000
    nest_api_link_origins        = ["http://10.0.0.5:3000", "http://api.internal"]
    labels                       = { cost_centre = "42" }
  }

  assert {
    condition = alltrue([
      for name in [
        google_cloudfunctions2_function.etl.name, google_cloud_scheduler_job.etl.name, google_sql_database_instance.etl[0].name,
        google_compute_network.etl[0].name, google_compute_subnetwork.etl[0].name, google_compute_global_address.private_services[0].name,
        google_secret_manager_secret.token[0].secret_id, google_service_account.build.account_id, google_service_account.run.account_id,
        google_service_account.invoke.account_id, google_logging_metric.etl["etl_jobs_total"].name, google_monitoring_alert_policy.no_success.display_name,
      ] : startswith(name, "veritix-dev")
    ])
    error_message = "Every name must begin with the prefix."
  }
  assert {
    condition     = google_bigquery_dataset.etl[0].dataset_id == "veritix_dev" && google_storage_bucket.source.name == "veritix-test-veritix-dev-etl-source"
    error_message = "Dataset and bucket must carry the prefix too."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.no_success.conditions[0].condition_prometheus_query_language[0].query, "user_veritix_dev_etl_jobs_total")
    error_message = "The alert must look at this environment's metric."
  }
  assert {
    condition     = length(google_monitoring_alert_policy.log["failed"].notification_channels) == 2 && google_monitoring_notification_channel.email["data@example.com"].labels["email_address"] == "data@example.com"
    error_message = "Alerts must go to the addresses and the channels."
  }
  assert {
    condition     = toset([for grant in google_cloud_run_v2_service_iam_member.invokers : "${grant.role} ${grant.member}"]) == toset(["roles/run.invoker user:jo@example.com", "roles/run.invoker group:data@example.com"])
    error_message = "Operators must be able to call the function."
  }
  assert {
    condition     = !google_sql_database_instance.etl[0].deletion_protection && !google_sql_database_instance.etl[0].settings[0].deletion_protection_enabled && google_sql_database_instance.etl[0].settings[0].availability_type == "REGIONAL"
    error_message = "Both deletion protections go off together."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].environment_variables["NEST_API_LINK_ORIGINS"] == "http://10.0.0.5:3000,http://api.internal" && google_cloudfunctions2_function.etl.service_config[0].environment_variables["NEST_API_PAGE_SIZE"] == "1000"
    error_message = "The upstream's settings must reach the function."
  }
  assert {
    condition     = google_sql_database_instance.etl[0].settings[0].user_labels["cost_centre"] == "42" && google_sql_database_instance.etl[0].settings[0].user_labels["instance"] == "veritix-dev-etl"
    error_message = "Labels must be on what carries them under another name."
  }
}

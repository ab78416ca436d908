# What a plan with nothing but the required variables makes.

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

run "defaults" {
  command = plan

  # --- function ---
  assert {
    condition     = google_cloudfunctions2_function.etl.build_config[0].runtime == "python313" && google_cloudfunctions2_function.etl.build_config[0].entry_point == "run_etl"
    error_message = "The function must be run_etl on python313."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].max_instance_count == 1
    error_message = "More than one instance would mean runs beside each other."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].max_instance_request_concurrency == 1
    error_message = "One request at a time is the default."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.build_config[0].service_account == "projects/veritix-test/serviceAccounts/veritix-etl-build@veritix-test.iam.gserviceaccount.com"
    error_message = "The build must run as the build account."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].service_account_email == "veritix-etl-run@veritix-test.iam.gserviceaccount.com"
    error_message = "The function must run as the run account."
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.invokers) == 0
    error_message = "Nobody but the scheduler may call the function by default."
  }
  assert {
    condition = (
      tonumber(google_cloudfunctions2_function.etl.service_config[0].environment_variables["ETL_DEADLINE_SECONDS"]) < google_cloudfunctions2_function.etl.service_config[0].timeout_seconds &&
      google_cloudfunctions2_function.etl.service_config[0].timeout_seconds < tonumber(trimsuffix(google_cloud_scheduler_job.etl.attempt_deadline, "s"))
    )
    error_message = "The run's deadline must come before the function's time-out, and that before the scheduler's."
  }

  # --- scheduler ---
  assert {
    condition     = google_cloud_scheduler_job.etl.schedule == "*/15 * * * *" && google_cloud_scheduler_job.etl.time_zone == "UTC"
    error_message = "Every 15 minutes is the default."
  }
  assert {
    condition     = google_cloud_scheduler_job.etl.paused == false
    error_message = "The scheduler is on by default."
  }
  assert {
    condition     = google_cloud_scheduler_job.etl.http_target[0].uri == google_cloudfunctions2_function.etl.service_config[0].uri
    error_message = "The target must be the service's URI."
  }
  assert {
    condition     = google_cloud_scheduler_job.etl.http_target[0].oidc_token[0].audience == google_cloudfunctions2_function.etl.service_config[0].uri
    error_message = "The token's audience must be the service's URI."
  }
  assert {
    condition     = google_cloud_scheduler_job.etl.retry_config[0].retry_count == 2 && google_cloud_scheduler_job.etl.retry_config[0].min_backoff_duration == "120s"
    error_message = "A failed run is tried again twice, and not before a killed run's lease has ended."
  }
  assert {
    condition     = google_cloud_scheduler_job.etl.http_target[0].oidc_token[0].service_account_email == "veritix-etl-invoke@veritix-test.iam.gserviceaccount.com"
    error_message = "The scheduler must call as the invoke account."
  }
  assert {
    condition = (
      google_cloud_run_v2_service_iam_member.scheduler.role == "roles/run.invoker" &&
      google_cloud_run_v2_service_iam_member.scheduler.name == google_cloudfunctions2_function.etl.name &&
      google_cloud_run_v2_service_iam_member.scheduler.member == "serviceAccount:veritix-etl-invoke@veritix-test.iam.gserviceaccount.com"
    )
    error_message = "The invoke account needs run.invoker on the service, and on nothing else."
  }

  # --- token ---
  assert {
    condition     = google_secret_manager_secret_version.token[0].secret_data == null && google_secret_manager_secret_version.token[0].secret_data_wo == null
    error_message = "The token must be in no plan."
  }
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].environment_variables["NEST_API_TOKEN_SECRET"] == "projects/veritix-test/secrets/veritix-etl-nest-api-token/versions/latest"
    error_message = "The function must read the latest version of the secret."
  }
  assert {
    condition     = google_secret_manager_secret.token[0].secret_id == "veritix-etl-nest-api-token" && google_secret_manager_secret_version.token[0].deletion_policy == "DISABLE"
    error_message = "A rolled token's old version must stay, disabled."
  }
  assert {
    condition = (
      google_secret_manager_secret_iam_member.run_reads_token[0].member == "serviceAccount:veritix-etl-run@veritix-test.iam.gserviceaccount.com" &&
      google_secret_manager_secret_iam_member.run_reads_token[0].secret_id == "projects/veritix-test/secrets/veritix-etl-nest-api-token"
    )
    error_message = "The run account must be able to read the secret."
  }

  # --- database ---
  assert {
    condition     = google_sql_database_instance.etl[0].settings[0].ip_configuration[0].ipv4_enabled == false && google_sql_database_instance.etl[0].settings[0].ip_configuration[0].private_network == "projects/veritix-test/global/networks/veritix-etl"
    error_message = "The instance must have a private address only."
  }
  assert {
    condition     = google_sql_database_instance.etl[0].settings[0].ip_configuration[0].ssl_mode == "TRUSTED_CLIENT_CERTIFICATE_REQUIRED" && google_sql_database_instance.etl[0].settings[0].connector_enforcement == "REQUIRED"
    error_message = "Connections must be encrypted, and come through a connector."
  }
  assert {
    condition     = google_sql_database_instance.etl[0].deletion_protection && google_sql_database_instance.etl[0].settings[0].deletion_protection_enabled
    error_message = "Both deletion protections must be on."
  }
  assert {
    condition     = google_sql_database_instance.etl[0].settings[0].backup_configuration[0].enabled && google_sql_database_instance.etl[0].settings[0].backup_configuration[0].point_in_time_recovery_enabled
    error_message = "Backups and point-in-time recovery must be on."
  }
  assert {
    condition     = google_sql_database_instance.etl[0].settings[0].edition == "ENTERPRISE" && google_sql_database_instance.etl[0].settings[0].tier == "db-g1-small"
    error_message = "The default is a small tier, of the edition that has it."
  }
  assert {
    condition     = contains([for flag in google_sql_database_instance.etl[0].settings[0].database_flags : "${flag.name}=${flag.value}"], "cloudsql.iam_authentication=on")
    error_message = "IAM logins need their flag."
  }
  assert {
    condition     = google_sql_user.run.name == "veritix-etl-run@veritix-test.iam" && google_sql_user.run.type == "CLOUD_IAM_SERVICE_ACCOUNT" && google_sql_user.run.database_roles == tolist(["cloudsqlsuperuser"])
    error_message = "The run account must be an IAM user that may create its tables."
  }
  assert {
    condition = alltrue([
      for grant in google_project_iam_member.run_connects :
      grant.condition[0].expression == "resource.type == \"sqladmin.googleapis.com/Instance\" && resource.name == \"projects/veritix-test/instances/veritix-etl\""
    ]) && toset(keys(google_project_iam_member.run_connects)) == toset(["roles/cloudsql.client", "roles/cloudsql.instanceUser"])
    error_message = "The run account may connect and log in, to this instance only."
  }

  # --- network ---
  assert {
    condition     = google_cloudfunctions2_function.etl.service_config[0].direct_vpc_egress == "VPC_EGRESS_PRIVATE_RANGES_ONLY" && length(google_cloudfunctions2_function.etl.service_config[0].direct_vpc_network_interface) == 1
    error_message = "Only private ranges go through the VPC."
  }
  assert {
    condition     = google_compute_network.etl[0].auto_create_subnetworks == false && google_compute_subnetwork.etl[0].private_ip_google_access
    error_message = "The network must have the one subnetwork."
  }
  assert {
    condition     = google_compute_global_address.private_services[0].purpose == "VPC_PEERING" && google_service_networking_connection.private_services[0].reserved_peering_ranges == tolist([google_compute_global_address.private_services[0].name])
    error_message = "Private services access must use the reserved range."
  }

  # --- bigquery ---
  assert {
    condition     = google_bigquery_dataset.etl[0].dataset_id == "veritix" && google_bigquery_dataset.etl[0].location == "US" && google_bigquery_dataset.etl[0].delete_contents_on_destroy == false
    error_message = "BigQuery is on by default, and keeps its tables."
  }
  assert {
    condition     = google_bigquery_dataset.etl[0].default_table_expiration_ms == null && google_bigquery_dataset.etl[0].default_partition_expiration_ms == null
    error_message = "No table and no day may expire: an expiration that someone sets is taken back."
  }
  assert {
    condition     = google_bigquery_dataset_iam_member.run_edits[0].role == "roles/bigquery.dataEditor" && google_bigquery_dataset_iam_member.run_edits[0].dataset_id == "veritix"
    error_message = "The run account edits the one dataset."
  }

  # --- source ---
  assert {
    condition     = google_storage_bucket.source.uniform_bucket_level_access && google_storage_bucket.source.public_access_prevention == "enforced" && google_storage_bucket.source.versioning[0].enabled
    error_message = "The bucket must be private and versioned."
  }
  assert {
    condition     = alltrue([for rule in google_storage_bucket.source.lifecycle_rule : alltrue([for condition in rule.condition : condition.with_state == "ARCHIVED" && condition.days_since_noncurrent_time == 30])])
    error_message = "Old versions must expire, the current one never."
  }
  assert {
    condition     = google_storage_bucket_object.source.name == "source-${data.archive_file.source.output_sha256}.zip" && google_cloudfunctions2_function.etl.build_config[0].source[0].storage_source[0].object == google_storage_bucket_object.source.name
    error_message = "The object's name must carry the archive's hash, and the function be built from it."
  }
  assert {
    condition     = alltrue([for api in google_project_service.required : api.disable_on_destroy == false])
    error_message = "No API may be switched off again."
  }

  # --- monitoring ---
  assert {
    condition     = google_logging_metric.etl["etl_jobs_total"].name == "veritix/etl_jobs_total" && google_logging_metric.etl["etl_jobs_total"].label_extractors["status"] == "EXTRACT(jsonPayload.status)" && google_logging_metric.etl["etl_jobs_total"].metric_descriptor[0].value_type == "INT64"
    error_message = "Runs must be counted by status."
  }
  assert {
    condition     = google_logging_metric.etl["etl_job_duration_seconds"].value_extractor == "EXTRACT(jsonPayload.duration_seconds)" && google_logging_metric.etl["etl_job_duration_seconds"].metric_descriptor[0].value_type == "DISTRIBUTION"
    error_message = "Durations must be a distribution."
  }
  assert {
    condition     = google_monitoring_alert_policy.no_success.conditions[0].condition_prometheus_query_language[0].query == "(sum(increase(logging_googleapis_com:user_veritix_etl_jobs_total{monitored_resource=\"cloud_run_revision\",status=\"success\"}[15m])) or vector(0)) < 0.5"
    error_message = "The dead man's switch must also see what was never written."
  }
  assert {
    condition     = google_monitoring_alert_policy.no_success.conditions[0].condition_prometheus_query_language[0].duration == "1800s" && google_monitoring_alert_policy.no_success.conditions[0].condition_prometheus_query_language[0].disable_metric_validation && google_monitoring_alert_policy.no_success.enabled
    error_message = "15 minutes and 30 more: three times the interval."
  }
  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.log : strcontains(policy.conditions[0].condition_matched_log[0].filter, "resource.labels.service_name=\"veritix-etl\"")])
    error_message = "Alerts must look at this function's log only."
  }
  assert {
    condition     = google_monitoring_alert_policy.log["failed"].conditions[0].condition_matched_log[0].label_extractors["code"] == "EXTRACT(jsonPayload.code)"
    error_message = "A failure must be told by its code."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.log["slow"].conditions[0].condition_matched_log[0].filter, "jsonPayload.duration_seconds>1368")
    error_message = "80 % of 1710 s is 1368 s."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.log["rejects"].conditions[0].condition_matched_log[0].filter, "jsonPayload.rejected_count>100")
    error_message = "The threshold of rejects must be in the filter."
  }
  assert {
    condition = alltrue([
      for policy in concat(values(google_monitoring_alert_policy.log), [google_monitoring_alert_policy.no_success]) :
      alltrue([for part in ["**Means:**", "**Do:**", "**Query**"] : strcontains(policy.documentation[0].content, part)])
    ])
    error_message = "Every alert must say what it means, what to do and what to query."
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.etl.dashboard_json).mosaicLayout.tiles) == 9
    error_message = "The dashboard has eight charts and the failures."
  }

  # --- outputs ---
  assert {
    condition     = output.function_uri == "https://veritix-etl-abc123-ey.a.run.app" && endswith(output.run_command, " https://veritix-etl-abc123-ey.a.run.app") && strcontains(output.run_command, "gcloud auth print-identity-token")
    error_message = "The run command must call the function with an identity token."
  }
  assert {
    condition     = output.instance_connection_name == "veritix-test:europe-west3:veritix-etl" && output.bigquery_dataset == "veritix-test.veritix" && output.database_user == "veritix-etl-run@veritix-test.iam"
    error_message = "The stores must be named."
  }
  assert {
    condition = (
      output.scheduler_job == "projects/veritix-test/locations/europe-west3/jobs/veritix-etl" &&
      output.dashboard_url == "https://console.cloud.google.com/monitoring/dashboards/builder/01234567-89ab-cdef-0123-456789abcdef?project=veritix-test"
    )
    error_message = "The job and the dashboard must be found."
  }
}

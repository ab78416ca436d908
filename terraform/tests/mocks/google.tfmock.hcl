# What Google Cloud would answer with, where another resource or an output reads it. In its real form, as the provider
# refuses others when a plan is applied. Plans know it beforehand: they say `override_during = plan`.

override_resource {
  target = google_service_account.build
  values = {
    name  = "projects/veritix-test/serviceAccounts/veritix-etl-build@veritix-test.iam.gserviceaccount.com"
    email = "veritix-etl-build@veritix-test.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.run
  values = { email = "veritix-etl-run@veritix-test.iam.gserviceaccount.com" }
}

override_resource {
  target = google_service_account.invoke
  values = { email = "veritix-etl-invoke@veritix-test.iam.gserviceaccount.com" }
}

override_resource {
  target = google_cloudfunctions2_function.etl
  values = { service_config = { uri = "https://veritix-etl-abc123-ey.a.run.app", direct_vpc_egress = "VPC_EGRESS_PRIVATE_RANGES_ONLY" } }
}

override_resource {
  target = google_compute_network.etl
  values = { id = "projects/veritix-test/global/networks/veritix-etl" }
}

override_resource {
  target = google_compute_subnetwork.etl
  values = { id = "projects/veritix-test/regions/europe-west3/subnetworks/veritix-etl" }
}

override_resource {
  target = google_secret_manager_secret.token
  values = { id = "projects/veritix-test/secrets/veritix-etl-nest-api-token" }
}

override_resource {
  target = google_cloud_scheduler_job.etl
  values = { id = "projects/veritix-test/locations/europe-west3/jobs/veritix-etl" }
}

override_resource {
  target = google_monitoring_notification_channel.email
  values = { name = "projects/veritix-test/notificationChannels/1234567890" }
}

override_resource {
  target = google_monitoring_dashboard.etl
  values = { id = "projects/123456789012/dashboards/01234567-89ab-cdef-0123-456789abcdef" }
}

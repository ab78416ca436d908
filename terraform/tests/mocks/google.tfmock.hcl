# What Google Cloud would answer with, where a name is made of it.

override_resource {
  target          = google_service_account.build
  override_during = plan
  values = {
    name  = "projects/veritix-test/serviceAccounts/veritix-etl-build@veritix-test.iam.gserviceaccount.com"
    email = "veritix-etl-build@veritix-test.iam.gserviceaccount.com"
  }
}

override_resource {
  target          = google_service_account.run
  override_during = plan
  values          = { email = "veritix-etl-run@veritix-test.iam.gserviceaccount.com" }
}

override_resource {
  target          = google_service_account.invoke
  override_during = plan
  values          = { email = "veritix-etl-invoke@veritix-test.iam.gserviceaccount.com" }
}

override_resource {
  target          = google_cloudfunctions2_function.etl
  override_during = plan
  values          = { service_config = { uri = "https://veritix-etl-abc123-ey.a.run.app" } }
}

override_resource {
  target          = google_compute_network.etl
  override_during = plan
  values          = { id = "projects/veritix-test/global/networks/veritix-etl" }
}

override_resource {
  target          = google_compute_subnetwork.etl
  override_during = plan
  values          = { id = "projects/veritix-test/regions/europe-west3/subnetworks/veritix-etl" }
}

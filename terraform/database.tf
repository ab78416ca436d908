locals {
  creates_instance = var.existing_instance_connection_name == ""
  instance_name    = var.database_instance_name != "" ? var.database_instance_name : local.name

  # PROJECT:REGION:INSTANCE, put together from what is known before the instance is.
  instance_connection_name = (
    local.creates_instance
    ? "${var.project_id}:${var.region}:${local.instance_name}"
    : var.existing_instance_connection_name
  )
  instance_project = split(":", local.instance_connection_name)[0]
  instance         = local.creates_instance ? google_sql_database_instance.etl[0].name : split(":", local.instance_connection_name)[2]
}

resource "google_sql_database_instance" "etl" {
  count = local.creates_instance ? 1 : 0

  #checkov:skip=CKV_GCP_60: No public address unless database_ip_type = "PUBLIC" asks for one, and then connectors only (tests/variants.tftest.hcl holds both).
  #checkov:skip=CKV_GCP_108: A name look-up for each connection would name Google's side of the connector, never the caller.
  #checkov:skip=CKV_GCP_110: pgaudit needs an extension made by hand; one account logs in, log_statement records its DDL and query insights its queries.
  project             = var.project_id
  name                = local.instance_name
  region              = var.region
  database_version    = var.database_version
  deletion_protection = var.database_deletion_protection

  settings {
    # Version 16 and later would default to ENTERPRISE_PLUS, which has no small tier.
    edition                     = "ENTERPRISE"
    tier                        = var.database_tier
    availability_type           = var.database_high_availability ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_autoresize             = true
    disk_autoresize_limit       = var.database_disk_limit_gb
    deletion_protection_enabled = var.database_deletion_protection
    # Only connectors and the Auth Proxy, which authenticate with IAM, whatever the address.
    connector_enforcement = "REQUIRED"
    user_labels           = local.labels

    ip_configuration {
      ipv4_enabled    = var.database_ip_type == "PUBLIC"
      private_network = var.database_ip_type == "PRIVATE" ? local.network : null
      ssl_mode        = "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "02:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = var.database_backups
        retention_unit   = "COUNT"
      }
    }

    maintenance_window {
      day          = 7
      hour         = 3
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled = true
    }

    # The login of the run account, without a password.
    database_flags {
      name  = "cloudsql.iam_authentication"
      value = "on"
    }

    # What happens to the database is in its log; what is in it isn't.
    database_flags {
      name  = "log_checkpoints"
      value = "on"
    }

    database_flags {
      name  = "log_connections"
      value = "on"
    }

    database_flags {
      name  = "log_disconnections"
      value = "on"
    }

    database_flags {
      name  = "log_duration"
      value = "on"
    }

    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }

    # Statements carry data: query insights shows the slow ones without it.
    database_flags {
      name  = "log_min_duration_statement"
      value = "-1"
    }

    database_flags {
      name  = "log_min_error_statement"
      value = "error"
    }

    database_flags {
      name  = "log_min_messages"
      value = "warning"
    }

    database_flags {
      name  = "log_statement"
      value = "ddl"
    }

    database_flags {
      name  = "log_temp_files"
      value = "0"
    }
  }

  # A private address needs the peering to stand.
  depends_on = [google_project_service.required, google_service_networking_connection.private_services]
}

resource "google_sql_database" "etl" {
  count = local.creates_instance ? 1 : 0

  project  = var.project_id
  instance = local.instance
  name     = var.database_name
  # Goes with its instance; a new name must not drop the data under the old one.
  deletion_policy = "ABANDON"
}

# Named as Cloud SQL names service accounts. After the database, so that it is destroyed before it.
resource "google_sql_user" "run" {
  project        = local.instance_project
  instance       = local.instance
  name           = trimsuffix(google_service_account.run.email, ".gserviceaccount.com")
  type           = "CLOUD_IAM_SERVICE_ACCOUNT"
  database_roles = var.database_roles
  # Cloud SQL does not delete a user that was granted roles.
  deletion_policy = "ABANDON"

  depends_on = [google_sql_database.etl]
}

# IAM on a Cloud SQL instance is granted on its project; the condition narrows it to the instance.
resource "google_project_iam_member" "run_connects" {
  for_each = toset(["roles/cloudsql.client", "roles/cloudsql.instanceUser"])

  project = local.instance_project
  role    = each.value
  member  = "serviceAccount:${google_service_account.run.email}"

  condition {
    title       = "${local.name}_instance_only"
    description = "Only the instance that the ETL loads into."
    expression  = "resource.type == \"sqladmin.googleapis.com/Instance\" && resource.name == \"projects/${local.instance_project}/instances/${local.instance}\""
  }
}

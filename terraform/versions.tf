terraform {
  # 1.11: write-only arguments, which keep the token out of the state.
  required_version = ">= 1.11"

  required_providers {
    google = {
      source = "hashicorp/google"
      # 7.21: direct VPC egress of functions; google_sql_user.database_roles is of the same spring.
      version = "~> 7.21"
    }
    archive = {
      source  = "hashicorp/archive"
      version = "~> 2.7"
    }
    time = {
      source  = "hashicorp/time"
      version = "~> 0.13"
    }
  }
}

provider "google" {
  project        = var.project_id
  region         = var.region
  default_labels = local.labels
}

locals {
  name = "${var.prefix}-etl"

  labels = merge(var.labels, {
    application = "veritix-etl"
    instance    = local.name
    managed_by  = "terraform"
  })
}

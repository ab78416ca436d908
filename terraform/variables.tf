# --- Project ---------------------------------------------------------------------------------------

variable "project_id" {
  description = "Project that everything is deployed into."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is ${jsonencode(var.project_id)}: write the project's ID (not its name or number), such as veritix-prod-1234."
  }
}

variable "region" {
  description = "Region of the function, the scheduler job, the bucket, the network and the database."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[1-9][0-9]?$", var.region))
    error_message = "region is ${jsonencode(var.region)}: write a region (not a zone), such as europe-west3 or us-central1."
  }
}

variable "prefix" {
  description = "What all names begin with, so that several environments fit in one project."
  type        = string
  default     = "veritix"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9]|-[a-z0-9]){1,18}$", var.prefix)) && length(var.prefix) <= 19
    error_message = "prefix is ${jsonencode(var.prefix)}: write 2 to 19 lower-case letters, digits and single hyphens, beginning with a letter, such as veritix-dev."
  }
}

variable "labels" {
  description = "Labels put on everything that can carry them, beside the module's own."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels has a key or value that Google Cloud refuses: write lower-case letters, digits, _ and -, at most 63, keys beginning with a letter."
  }
}

# --- Upstream --------------------------------------------------------------------------------------

variable "nest_api_base_url" {
  description = "Address of the upstream API, without /events or /ticket-sales. Plain http:// only where it needs no token."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^https?://[^\\s/@?#]+(/[^\\s?#]*)?$", var.nest_api_base_url))
    error_message = "nest_api_base_url is ${jsonencode(var.nest_api_base_url)}: write it like https://api.example.com/v1, without user, password, query or fragment."
  }

  validation {
    condition     = startswith(var.nest_api_base_url, "https://") || var.nest_api_token_source == "none"
    error_message = "nest_api_base_url is ${jsonencode(var.nest_api_base_url)}: a token must not travel unencrypted; write https://, or nest_api_token_source = \"none\"."
  }
}

variable "nest_api_page_size" {
  description = "Records asked for a page (`limit`); 0: not asked, the upstream decides."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = floor(var.nest_api_page_size) == var.nest_api_page_size && var.nest_api_page_size >= 0 && var.nest_api_page_size <= 1000000
    error_message = "nest_api_page_size is ${var.nest_api_page_size}: write a whole number from 0 (not asked) to 1000000."
  }
}

variable "nest_api_concurrency" {
  description = "Pages fetched at once, where the upstream tells how many there are."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = floor(var.nest_api_concurrency) == var.nest_api_concurrency && var.nest_api_concurrency >= 1 && var.nest_api_concurrency <= 64
    error_message = "nest_api_concurrency is ${var.nest_api_concurrency}: write a whole number from 1 to 64."
  }
}

variable "nest_api_max_pages" {
  description = "Pages of a dataset after which the run fails rather than go on for ever."
  type        = number
  default     = 1000000
  nullable    = false

  validation {
    condition     = floor(var.nest_api_max_pages) == var.nest_api_max_pages && var.nest_api_max_pages >= 1 && var.nest_api_max_pages <= 1000000000
    error_message = "nest_api_max_pages is ${var.nest_api_max_pages}: write a whole number from 1 to 1000000000."
  }
}

variable "nest_api_timeout_seconds" {
  description = "Time-out of a request to the upstream: to connect, and between bytes."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.nest_api_timeout_seconds >= 0.1 && var.nest_api_timeout_seconds <= 3600
    error_message = "nest_api_timeout_seconds is ${var.nest_api_timeout_seconds}: write seconds from 0.1 to 3600."
  }
}

variable "nest_api_link_origins" {
  description = "Further origins that the upstream's page links may name, such as its address behind a proxy."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for origin in var.nest_api_link_origins : can(regex("^https?://[^\\s/@?#,]+$", origin))])
    error_message = "nest_api_link_origins is ${jsonencode(var.nest_api_link_origins)}: write origins only, such as http://10.0.0.5:3000."
  }
}

# --- The upstream's token --------------------------------------------------------------------------

variable "nest_api_token_source" {
  description = "Where the token is: \"managed\" (Terraform makes the secret from nest_api_token), \"existing\" (nest_api_token_existing_secret) or \"none\" (the upstream needs none)."
  type        = string
  default     = "managed"
  nullable    = false

  validation {
    condition     = contains(["managed", "existing", "none"], var.nest_api_token_source)
    error_message = "nest_api_token_source is ${jsonencode(var.nest_api_token_source)}: write managed, existing or none."
  }
}

variable "nest_api_token" {
  description = "The token, for nest_api_token_source = \"managed\": give it as TF_VAR_nest_api_token. Never kept in state or plan."
  type        = string
  default     = ""
  nullable    = false
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = var.nest_api_token_source != "managed" || can(regex("^[\\x21-\\x7e]+$", var.nest_api_token))
    error_message = "nest_api_token is missing, or has blanks in it: set TF_VAR_nest_api_token to the bare token, or choose nest_api_token_source = \"existing\" or \"none\"."
  }
}

variable "nest_api_token_write_version" {
  description = "Count it up to write nest_api_token as a new version of the secret: that rolls the token."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = floor(var.nest_api_token_write_version) == var.nest_api_token_write_version && var.nest_api_token_write_version >= 1
    error_message = "nest_api_token_write_version is ${var.nest_api_token_write_version}: write a whole number from 1, one more than last time."
  }
}

variable "nest_api_token_read_version" {
  description = "Version of the secret that the function reads: \"latest\", or a number to pin it."
  type        = string
  default     = "latest"
  nullable    = false

  validation {
    condition     = can(regex("^(latest|[1-9][0-9]*)$", var.nest_api_token_read_version))
    error_message = "nest_api_token_read_version is ${jsonencode(var.nest_api_token_read_version)}: write latest, or the version's number, such as 3."
  }
}

variable "nest_api_token_existing_secret" {
  description = "Secret made elsewhere, for nest_api_token_source = \"existing\": its name in this project, or projects/PROJECT/secrets/NAME."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.nest_api_token_existing_secret == "" || can(regex("^(projects/[^/\\s]+/secrets/)?[A-Za-z0-9_-]{1,255}$", var.nest_api_token_existing_secret))
    error_message = "nest_api_token_existing_secret is ${jsonencode(var.nest_api_token_existing_secret)}: write the secret's name, or projects/PROJECT/secrets/NAME, without a version."
  }

  validation {
    condition     = (var.nest_api_token_existing_secret != "") == (var.nest_api_token_source == "existing")
    error_message = "nest_api_token_existing_secret and nest_api_token_source = \"existing\" belong together: write both or neither."
  }
}

# --- The run ---------------------------------------------------------------------------------------

variable "etl_sales_store" {
  description = "Where sales are kept, so that runs read only what changed: none, postgres or bigquery (docs/increments.md)."
  type        = string
  default     = "none"
  nullable    = false

  validation {
    condition     = contains(["none", "postgres", "bigquery"], var.etl_sales_store)
    error_message = "etl_sales_store is ${var.etl_sales_store}: write none, postgres or bigquery."
  }

  validation {
    condition     = var.etl_sales_store != "bigquery" || var.enable_bigquery
    error_message = "etl_sales_store is bigquery, and enable_bigquery is false: set it to true, or keep the sales in postgres."
  }

  validation {
    condition     = var.etl_sales_store == "none" || !var.enable_bigquery || var.bigquery_write_mode == "merge"
    error_message = "etl_sales_store is ${var.etl_sales_store}, and bigquery_write_mode is ${var.bigquery_write_mode}: kept sales need merge."
  }
}

variable "nest_api_changed_query" {
  description = "With kept sales: query string that asks /ticket-sales for what changed, with {since} in a value; empty: runs read the whole list in slices."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.nest_api_changed_query == "" || length(split("{since}", var.nest_api_changed_query)) == 2
    error_message = "nest_api_changed_query is ${var.nest_api_changed_query}: write a query string with one {since}, such as updated_after={since}."
  }
}

variable "nest_api_changed_field" {
  description = "With kept sales: key of a sale's time of change; empty: updatedAt, updated_at, modifiedAt or modified_at."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = trimspace(var.nest_api_changed_field) == var.nest_api_changed_field
    error_message = "nest_api_changed_field is '${var.nest_api_changed_field}': write the key without blanks around it."
  }
}

variable "nest_api_changed_format" {
  description = "With kept sales: how {since} is written: iso, unix or unix_ms."
  type        = string
  default     = "iso"
  nullable    = false

  validation {
    condition     = contains(["iso", "unix", "unix_ms"], var.nest_api_changed_format)
    error_message = "nest_api_changed_format is ${var.nest_api_changed_format}: write iso, unix or unix_ms."
  }
}

variable "etl_lookback_seconds" {
  description = "With kept sales: seconds by which an increment begins before the last one. Longer than the upstream's longest write transaction, its replicas' lag and the clocks' difference together."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.etl_lookback_seconds >= 1 && var.etl_lookback_seconds <= 2592000
    error_message = "etl_lookback_seconds is ${var.etl_lookback_seconds}: write seconds from 1 to 2592000."
  }
}

variable "etl_sweep_hours" {
  description = "With kept sales: hours from the end of a sweep of the whole list to the next one; 0: each run sweeps."
  type        = number
  default     = 24
  nullable    = false

  validation {
    condition     = var.etl_sweep_hours >= 0 && var.etl_sweep_hours <= 8760
    error_message = "etl_sweep_hours is ${var.etl_sweep_hours}: write hours from 0 to 8760."
  }
}

variable "etl_max_unproved_ratio" {
  description = "With kept sales: share of them that may be gone upstream, until the next sweep shows which, and be published all the same."
  type        = number
  default     = 0.001
  nullable    = false

  validation {
    condition     = var.etl_max_unproved_ratio >= 0 && var.etl_max_unproved_ratio <= 1
    error_message = "etl_max_unproved_ratio is ${var.etl_max_unproved_ratio}: write a share from 0 to 1."
  }
}

variable "etl_timezone" {
  description = "Time zone in which a sale's day is counted."
  type        = string
  default     = "UTC"
  nullable    = false

  validation {
    condition     = can(regex("^(UTC|[A-Z][A-Za-z]+(/[A-Za-z0-9_+-]+){1,2})$", var.etl_timezone))
    error_message = "etl_timezone is ${jsonencode(var.etl_timezone)}: write a name of the IANA time zone database, such as UTC or Africa/Lagos."
  }
}

variable "etl_max_reject_ratio" {
  description = "Share of records that may be unusable before a run fails."
  type        = number
  default     = 0.05
  nullable    = false

  validation {
    condition     = var.etl_max_reject_ratio >= 0 && var.etl_max_reject_ratio <= 1
    error_message = "etl_max_reject_ratio is ${var.etl_max_reject_ratio}: write a share from 0 to 1, such as 0.05 for 5 %."
  }
}

variable "etl_max_shrink_ratio" {
  description = "Share by which the tickets or the revenue of the events read may fall before a run fails."
  type        = number
  default     = 0.5
  nullable    = false

  validation {
    condition     = var.etl_max_shrink_ratio >= 0 && var.etl_max_shrink_ratio <= 1
    error_message = "etl_max_shrink_ratio is ${var.etl_max_shrink_ratio}: write a share from 0 to 1, such as 0.5 for half."
  }
}

variable "etl_retention_days" {
  description = "Days that runs and rejected records are kept in the ledger."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = floor(var.etl_retention_days) == var.etl_retention_days && var.etl_retention_days >= 1 && var.etl_retention_days <= 36500
    error_message = "etl_retention_days is ${var.etl_retention_days}: write a whole number of days from 1 to 36500."
  }
}

variable "log_level" {
  description = "Least severity that is logged. Metrics and alerts are made from INFO and ERROR lines."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO"], var.log_level)
    error_message = "log_level is ${jsonencode(var.log_level)}: write INFO or DEBUG; with less the metrics and the alert on missing runs would see nothing."
  }
}

# --- Function --------------------------------------------------------------------------------------

variable "function_memory" {
  description = "Memory of the function."
  type        = string
  default     = "512Mi"
  nullable    = false

  validation {
    condition     = contains(["512Mi", "1Gi", "2Gi", "4Gi", "8Gi"], var.function_memory)
    error_message = "function_memory is ${jsonencode(var.function_memory)}: write 512Mi, 1Gi, 2Gi, 4Gi or 8Gi."
  }
}

variable "function_cpu" {
  description = "CPUs of the function."
  type        = string
  default     = "1"
  nullable    = false

  validation {
    condition     = contains(["0.333", "0.583", "1", "2"], var.function_cpu)
    error_message = "function_cpu is ${jsonencode(var.function_cpu)}: write 0.333, 0.583, 1 or 2 (a run uses hardly more than one)."
  }
}

variable "function_timeout_seconds" {
  description = "Time that a run may take; its own deadline is 30 s less. At most scheduler_attempt_deadline_seconds."
  type        = number
  default     = 1740
  nullable    = false

  validation {
    condition     = floor(var.function_timeout_seconds) == var.function_timeout_seconds && var.function_timeout_seconds >= 60
    error_message = "function_timeout_seconds is ${var.function_timeout_seconds}: write a whole number of seconds from 60."
  }

  validation {
    condition     = var.function_timeout_seconds <= var.scheduler_attempt_deadline_seconds
    error_message = "function_timeout_seconds is ${var.function_timeout_seconds}: write at most scheduler_attempt_deadline_seconds (${var.scheduler_attempt_deadline_seconds}), or Cloud Scheduler gives up on runs that go on."
  }
}

variable "function_concurrency" {
  description = "Requests that the one instance takes at once. More than 1 lets /health, /runs and /metrics answer during a run, and a second run be refused at once (409)."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = floor(var.function_concurrency) == var.function_concurrency && var.function_concurrency >= 1 && var.function_concurrency <= 80
    error_message = "function_concurrency is ${var.function_concurrency}: write a whole number from 1 to 80."
  }

  validation {
    condition     = var.function_concurrency == 1 || contains(["1", "2"], var.function_cpu)
    error_message = "function_concurrency is ${var.function_concurrency}: with function_cpu below 1 (${var.function_cpu}) Cloud Run allows 1 only."
  }
}

variable "function_ingress" {
  description = "Networks that may reach the function: ALLOW_ALL (IAM alone decides; an operator's curl works), ALLOW_INTERNAL_AND_GCLB or ALLOW_INTERNAL_ONLY (Cloud Scheduler works, curl from within the VPC only)."
  type        = string
  default     = "ALLOW_ALL"
  nullable    = false

  validation {
    condition     = contains(["ALLOW_ALL", "ALLOW_INTERNAL_AND_GCLB", "ALLOW_INTERNAL_ONLY"], var.function_ingress)
    error_message = "function_ingress is ${jsonencode(var.function_ingress)}: write ALLOW_ALL, ALLOW_INTERNAL_AND_GCLB or ALLOW_INTERNAL_ONLY."
  }
}

variable "invokers" {
  description = "IAM members who may call the function beside Cloud Scheduler, such as user:jo@example.com."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.invokers : can(regex("^((user|group|serviceAccount):[^@\\s]+@[^@\\s]+|principal(Set)?://[^\\s]+)$", member))])
    error_message = "invokers is ${jsonencode(var.invokers)}: write IAM members such as user:jo@example.com or group:data@example.com; the public (allUsers, allAuthenticatedUsers) and whole domains are refused."
  }
}

variable "source_retention_days" {
  description = "Days that the archives of earlier deployments are kept."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = floor(var.source_retention_days) == var.source_retention_days && var.source_retention_days >= 1 && var.source_retention_days <= 365
    error_message = "source_retention_days is ${var.source_retention_days}: write a whole number of days from 1 to 365."
  }
}

# --- Schedule --------------------------------------------------------------------------------------

variable "enable_etl_scheduler" {
  description = "Whether Cloud Scheduler starts runs. Switched off, the job is paused and the alert on missing runs rests."
  type        = bool
  default     = true
  nullable    = false
}

variable "etl_cron" {
  description = "Schedule as five cron fields; wins over etl_interval_minutes."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition = var.etl_cron == "" || (
      can(regex("^\\S+( \\S+){4}$", var.etl_cron)) &&
      alltrue([for field in split(" ", var.etl_cron) : can(regex("^((\\*|[0-9]{1,2}(-[0-9]{1,2})?)(/[1-9][0-9]?)?)(,(\\*|[0-9]{1,2}(-[0-9]{1,2})?)(/[1-9][0-9]?)?)*$", field))]) &&
      alltrue([for place, field in split(" ", var.etl_cron) : alltrue([for number in regexall("[0-9]+", field) : tonumber(number) <= try([59, 23, 31, 12, 7][place], -1)])])
    )
    error_message = "etl_cron is ${jsonencode(var.etl_cron)}: write minute, hour, day of month, month and day of week as numbers with one blank between, such as \"30 6 * * 1-5\"."
  }
}

variable "etl_cron_longest_gap_minutes" {
  description = "Longest time between two runs of etl_cron, in minutes (\"30 6 * * 1-5\": 4320, from Friday to Monday). The alert on missing runs counts in it."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition = var.etl_cron == "" ? var.etl_cron_longest_gap_minutes == 0 : (
      floor(var.etl_cron_longest_gap_minutes) == var.etl_cron_longest_gap_minutes &&
      var.etl_cron_longest_gap_minutes >= 1 && var.etl_cron_longest_gap_minutes <= 10080
    )
    error_message = "etl_cron_longest_gap_minutes is ${var.etl_cron_longest_gap_minutes}: with etl_cron, write the longest time between two of its runs in minutes, from 1 to 10080 (a week); without it, leave it out."
  }
}

variable "etl_interval_minutes" {
  description = "Minutes between runs, where etl_cron is not set."
  type        = number
  default     = 15
  nullable    = false

  validation {
    condition = var.etl_cron != "" || contains(local.even_intervals, var.etl_interval_minutes)
    error_message = format(
      "etl_interval_minutes is %s: cron can't say that evenly. Write %s, or a schedule of your own as etl_cron.",
      var.etl_interval_minutes,
      join(" or ", distinct([
        for minutes in [
          max(concat([1], [for even in local.even_intervals : even if even < var.etl_interval_minutes])...),
          min(concat([1440], [for even in local.even_intervals : even if even > var.etl_interval_minutes])...),
        ] : tostring(minutes)
      ])),
    )
  }
}

variable "scheduler_time_zone" {
  description = "Time zone of the schedule; empty: etl_timezone."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(|UTC|[A-Z][A-Za-z]+(/[A-Za-z0-9_+-]+){1,2})$", var.scheduler_time_zone))
    error_message = "scheduler_time_zone is ${jsonencode(var.scheduler_time_zone)}: write a name of the IANA time zone database, such as UTC or Africa/Lagos."
  }
}

variable "scheduler_attempt_deadline_seconds" {
  description = "Time after which Cloud Scheduler gives an attempt up; 1800 is its limit."
  type        = number
  default     = 1800
  nullable    = false

  validation {
    condition     = floor(var.scheduler_attempt_deadline_seconds) == var.scheduler_attempt_deadline_seconds && var.scheduler_attempt_deadline_seconds >= 60 && var.scheduler_attempt_deadline_seconds <= 1800
    error_message = "scheduler_attempt_deadline_seconds is ${var.scheduler_attempt_deadline_seconds}: write a whole number of seconds from 60 to 1800."
  }
}

variable "scheduler_retry_count" {
  description = "Times that a failed run is tried again, after 2, 4, 8, ... minutes (10 at most). 0 where etl_interval_minutes is below 5: the next run comes sooner than a retry."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = floor(var.scheduler_retry_count) == var.scheduler_retry_count && var.scheduler_retry_count >= 0 && var.scheduler_retry_count <= 5
    error_message = "scheduler_retry_count is ${var.scheduler_retry_count}: write a whole number from 0 to 5."
  }
}

# --- PostgreSQL ------------------------------------------------------------------------------------

variable "existing_instance_connection_name" {
  description = "Cloud SQL for PostgreSQL instance made elsewhere, PROJECT:REGION:INSTANCE; empty: Terraform makes one. It must have the flag cloudsql.iam_authentication and the database."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(|[a-z][a-z0-9-]+:[a-z0-9-]+:[a-z][a-z0-9-]+)$", var.existing_instance_connection_name))
    error_message = "existing_instance_connection_name is ${jsonencode(var.existing_instance_connection_name)}: write PROJECT:REGION:INSTANCE, as `gcloud sql instances describe` shows it."
  }
}

variable "database_name" {
  description = "Database that is loaded; with an existing instance it must be there."
  type        = string
  default     = "veritix"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]{0,62}$", var.database_name)) && !contains(["postgres", "template0", "template1", "cloudsqladmin"], var.database_name)
    error_message = "database_name is ${jsonencode(var.database_name)}: write lower-case letters, digits, _ and -, beginning with a letter or _, and none of PostgreSQL's own."
  }
}

variable "database_ip_type" {
  description = "Address that the function connects to: PRIVATE (through a VPC), PUBLIC (no network is authorised; connectors only), or PSC (an existing instance's)."
  type        = string
  default     = "PRIVATE"
  nullable    = false

  validation {
    condition     = contains(["PRIVATE", "PUBLIC", "PSC"], var.database_ip_type)
    error_message = "database_ip_type is ${jsonencode(var.database_ip_type)}: write PRIVATE, PUBLIC or PSC."
  }

  validation {
    condition     = var.database_ip_type != "PSC" || var.existing_instance_connection_name != ""
    error_message = "database_ip_type is PSC: that needs existing_instance_connection_name; write PRIVATE or PUBLIC for an instance made here."
  }
}

variable "database_roles" {
  description = "PostgreSQL roles of the run account. The default lets it make its tables in an instance of its own; README.md tells how to narrow it after the first run. An existing instance: a role with CREATE on the schema, or [] where it is granted by hand."
  type        = list(string)
  default     = ["cloudsqlsuperuser"]
  nullable    = false

  validation {
    condition     = var.existing_instance_connection_name == "" || !contains(var.database_roles, "cloudsqlsuperuser")
    error_message = "database_roles has cloudsqlsuperuser, which reaches every database of the existing instance: write a role that has CREATE on the schema, or [] and grant it by hand."
  }
}

variable "database_version" {
  description = "PostgreSQL version of the instance; the default is the one that the tests run on."
  type        = string
  default     = "POSTGRES_18"
  nullable    = false

  validation {
    condition     = contains(["POSTGRES_15", "POSTGRES_16", "POSTGRES_17", "POSTGRES_18"], var.database_version)
    error_message = "database_version is ${jsonencode(var.database_version)}: write POSTGRES_15, POSTGRES_16, POSTGRES_17 or POSTGRES_18."
  }
}

variable "database_tier" {
  description = "Machine type of the instance."
  type        = string
  default     = "db-g1-small"
  nullable    = false

  validation {
    condition     = can(regex("^db-(f1-micro|g1-small|custom-(1|[1-9]?[02468])-[1-9][0-9]{3,5})$", var.database_tier)) && try(tonumber(regex("^db-custom-[0-9]+-([0-9]+)$", var.database_tier)[0]) % 256, 0) == 0
    error_message = "database_tier is ${jsonencode(var.database_tier)}: write db-f1-micro, db-g1-small or db-custom-CPUS-MEGABYTES with 1 or an even number of CPUs and a multiple of 256, such as db-custom-2-7680."
  }
}

variable "database_high_availability" {
  description = "Whether a standby in another zone takes over; doubles the instance's cost."
  type        = bool
  default     = false
  nullable    = false
}

variable "database_disk_limit_gb" {
  description = "Size up to which the disk grows by itself, from 10 GB."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = floor(var.database_disk_limit_gb) == var.database_disk_limit_gb && var.database_disk_limit_gb >= 10 && var.database_disk_limit_gb <= 65536
    error_message = "database_disk_limit_gb is ${var.database_disk_limit_gb}: write whole gigabytes from 10 to 65536."
  }
}

variable "database_backups" {
  description = "Daily backups that are kept."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = floor(var.database_backups) == var.database_backups && var.database_backups >= 7 && var.database_backups <= 365
    error_message = "database_backups is ${var.database_backups}: write a whole number from 7 (as long as point-in-time recovery reaches back) to 365."
  }
}

variable "database_instance_name" {
  description = "Name of the instance; empty: PREFIX-etl. Cloud SQL keeps a deleted instance's name for a week: choose another then."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(|[a-z]([a-z0-9-]{0,82}[a-z0-9])?)$", var.database_instance_name))
    error_message = "database_instance_name is ${jsonencode(var.database_instance_name)}: write lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "database_deletion_protection" {
  description = "Whether Terraform and Cloud SQL both refuse to delete the instance."
  type        = bool
  default     = true
  nullable    = false
}

# --- Network (for a private address) ---------------------------------------------------------------

variable "existing_network" {
  description = "VPC network made elsewhere, with private services access: projects/PROJECT/global/networks/NAME; empty: Terraform makes one."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(|projects/[^/\\s]+/global/networks/[a-z][a-z0-9-]*)$", var.existing_network))
    error_message = "existing_network is ${jsonencode(var.existing_network)}: write projects/PROJECT/global/networks/NAME."
  }

  validation {
    condition     = var.existing_network != "" || var.existing_instance_connection_name == "" || var.database_ip_type == "PUBLIC"
    error_message = "existing_network is missing: the existing instance has its private address in a network of its own; write that one (and existing_subnetwork), or database_ip_type = \"PUBLIC\"."
  }
}

variable "existing_subnetwork" {
  description = "Subnetwork of existing_network for the function's egress, /26 or larger: projects/PROJECT/regions/REGION/subnetworks/NAME."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(|projects/[^/\\s]+/regions/[^/\\s]+/subnetworks/[a-z][a-z0-9-]*)$", var.existing_subnetwork))
    error_message = "existing_subnetwork is ${jsonencode(var.existing_subnetwork)}: write projects/PROJECT/regions/REGION/subnetworks/NAME."
  }

  validation {
    condition     = (var.existing_subnetwork != "") == (var.existing_network != "")
    error_message = "existing_network and existing_subnetwork belong together: write both or neither."
  }
}

variable "subnetwork_cidr" {
  description = "Addresses of the subnetwork that is made; Cloud Run wants /26 or larger."
  type        = string
  default     = "10.8.0.0/26"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.subnetwork_cidr)) && try(tonumber(split("/", var.subnetwork_cidr)[1]) <= 26, false) && try(cidrhost(var.subnetwork_cidr, 0) == split("/", var.subnetwork_cidr)[0], false)
    error_message = "subnetwork_cidr is ${jsonencode(var.subnetwork_cidr)}: write an IPv4 range of /26 or larger that begins at its first address, such as 10.8.0.0/26."
  }
}

# --- BigQuery --------------------------------------------------------------------------------------

variable "enable_bigquery" {
  description = "Whether the summaries are loaded into BigQuery too."
  type        = bool
  default     = true
  nullable    = false
}

variable "bigquery_dataset" {
  description = "Dataset that is made; empty: the prefix, with _ for -."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_]*$", var.bigquery_dataset))
    error_message = "bigquery_dataset is ${jsonencode(var.bigquery_dataset)}: write letters, digits and _."
  }
}

variable "bigquery_location" {
  description = "Location of the dataset: a region, or US or EU. It can't be changed later."
  type        = string
  default     = "US"
  nullable    = false

  validation {
    condition     = can(regex("^(US|EU|[a-z]+-[a-z]+[1-9][0-9]?)$", var.bigquery_location))
    error_message = "bigquery_location is ${jsonencode(var.bigquery_location)}: write US, EU or a region, such as europe-west3."
  }
}

variable "bigquery_table_event_summary" {
  description = "Table of the totals of each event."
  type        = string
  default     = "event_sales_summary"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_]+$", var.bigquery_table_event_summary))
    error_message = "bigquery_table_event_summary is ${jsonencode(var.bigquery_table_event_summary)}: write letters, digits and _."
  }
}

variable "bigquery_table_daily_sales" {
  description = "Table of the totals of each event and day."
  type        = string
  default     = "daily_ticket_sales"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_]+$", var.bigquery_table_daily_sales)) && var.bigquery_table_daily_sales != var.bigquery_table_event_summary
    error_message = "bigquery_table_daily_sales is ${jsonencode(var.bigquery_table_daily_sales)}: write letters, digits and _, and another name than bigquery_table_event_summary."
  }
}

variable "bigquery_table_ticket_sales" {
  description = "With sales kept in BigQuery: their table, with whose name the function's other tables of kept sales begin."
  type        = string
  default     = "etl_ticket_sales"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_]+$", var.bigquery_table_ticket_sales)) && !contains([var.bigquery_table_event_summary, var.bigquery_table_daily_sales], var.bigquery_table_ticket_sales)
    error_message = "bigquery_table_ticket_sales is ${jsonencode(var.bigquery_table_ticket_sales)}: write letters, digits and _, and another name than the summaries have."
  }
}

variable "bigquery_partition_by" {
  description = "Partitions of the tables that the function makes: day or month, for sales on more than 10,000 days."
  type        = string
  default     = "day"
  nullable    = false

  validation {
    condition     = contains(["day", "month"], var.bigquery_partition_by)
    error_message = "bigquery_partition_by is ${jsonencode(var.bigquery_partition_by)}: write day or month."
  }
}

variable "bigquery_write_mode" {
  description = "merge: one MERGE a table, the same however often it runs. stream: rows are appended, as the earlier Veritix ETL did."
  type        = string
  default     = "merge"
  nullable    = false

  validation {
    condition     = contains(["merge", "stream"], var.bigquery_write_mode)
    error_message = "bigquery_write_mode is ${jsonencode(var.bigquery_write_mode)}: write merge or stream."
  }
}

variable "bigquery_delete_contents_on_destroy" {
  description = "Whether destroying the dataset may destroy its tables."
  type        = bool
  default     = false
  nullable    = false
}

# --- Monitoring ------------------------------------------------------------------------------------

variable "alert_emails" {
  description = "E-mail addresses that alerts go to."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s,;]+@[^@\\s,;]+\\.[^@\\s,;]+$", address))])
    error_message = "alert_emails is ${jsonencode(var.alert_emails)}: write bare addresses, such as data@example.com."
  }
}

variable "alert_notification_channels" {
  description = "Notification channels made elsewhere that alerts go to, too: projects/PROJECT/notificationChannels/ID."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for channel in var.alert_notification_channels : can(regex("^projects/[^/\\s]+/notificationChannels/[0-9]+$", channel))])
    error_message = "alert_notification_channels is ${jsonencode(var.alert_notification_channels)}: write projects/PROJECT/notificationChannels/ID."
  }
}

variable "alert_missed_runs" {
  description = "Alert once there was no success for this many times the interval; at the latest after 25 hours, or after a longer interval and an hour."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = floor(var.alert_missed_runs) == var.alert_missed_runs && var.alert_missed_runs >= 2 && var.alert_missed_runs <= 100
    error_message = "alert_missed_runs is ${var.alert_missed_runs}: write a whole number from 2 (one late run is no alarm) to 100."
  }
}

variable "alert_duration_ratio" {
  description = "Alert on a run that took more than this share of its deadline."
  type        = number
  default     = 0.8
  nullable    = false

  validation {
    condition     = var.alert_duration_ratio > 0 && var.alert_duration_ratio < 1
    error_message = "alert_duration_ratio is ${var.alert_duration_ratio}: write a share between 0 and 1, such as 0.8."
  }
}

variable "alert_rejected_records" {
  description = "Alert on a run that set more than this many records aside."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = floor(var.alert_rejected_records) == var.alert_rejected_records && var.alert_rejected_records >= 0
    error_message = "alert_rejected_records is ${var.alert_rejected_records}: write a whole number from 0."
  }
}

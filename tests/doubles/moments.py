"""The moments of a run at which something can break, each told by the step that goes by in one of the proxies then."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """`pattern` is searched in the text of a step. `is_write`: whether a step of BigQuery's changes something there.

    `first_run`: whether the moment comes in a first run only, into stores without tables, or (False) never in such a
    one; None: in any.
    """

    place: str
    pattern: str
    is_write: bool = False
    first_run: bool | None = None


_LOAD = r"(?s)^commit\n.*SELECT etl_lease\.fence.*FOR UPDATE"
_START = r"(?s)^commit\n.*INSERT INTO etl_lease"
_FINISH = r"(?s)^commit\n.*UPDATE etl_lease SET run_id"
_FORGET = r"(?s)^commit\n.*DELETE FROM etl_runs"
_JOB = r"^POST /bigquery/v2/projects/[^/]+/jobs\?"
_ID = "etl_staging_"

POSTGRES = {
    "create-ledger": Moment("postgres", r"CREATE TABLE etl_runs", first_run=True),
    "create-tables": Moment("postgres", r"CREATE TABLE daily_ticket_sales", first_run=True),
    "connect": Moment("postgres", r"^connect$"),
    "lease": Moment("postgres", r"^INSERT INTO etl_lease"),
    "catch-up": Moment("postgres", r"(?s)^INSERT INTO etl_job_counts.*SELECT status"),
    "bury": Moment("postgres", r"^UPDATE etl_runs .*error_code=.*WHERE etl_runs.status"),
    "ledger-row": Moment("postgres", r"^INSERT INTO etl_runs"),
    "commit-start": Moment("postgres", _START),
    "guard-ledger": Moment("postgres", r"^SELECT etl_job_counts\.status"),
    "guard-tickets": Moment("postgres", r"^SELECT coalesce\(sum\(t\.total_tickets", first_run=False),
    "stage-summary": Moment("postgres", r"^CREATE TEMPORARY TABLE etl_staging_event"),
    "copy-summary": Moment("postgres", r"^COPY etl_staging_event"),
    "copying-summary": Moment("postgres", r"^rows of COPY etl_staging_event"),
    "copied-summary": Moment("postgres", r"^end of COPY etl_staging_event"),
    "stage-daily": Moment("postgres", r"^CREATE TEMPORARY TABLE etl_staging_daily"),
    "copy-daily": Moment("postgres", r"^COPY etl_staging_daily"),
    "copying-daily": Moment("postgres", r"^rows of COPY etl_staging_daily"),
    "copied-daily": Moment("postgres", r"^end of COPY etl_staging_daily"),
    "keep-names": Moment("postgres", r"^UPDATE etl_staging_event"),
    "upsert-daily": Moment("postgres", r"INSERT INTO daily_ticket_sales"),
    "upsert-summary": Moment("postgres", r"INSERT INTO event_sales_summary"),
    "reconcile": Moment("postgres", r"^SELECT count\(\*\), coalesce\(sum\(total"),
    "seal": Moment("postgres", r"(?s)^SELECT etl_lease\.fence.*FOR UPDATE"),
    "commit-load": Moment("postgres", _LOAD),
    "renew": Moment("postgres", r"^UPDATE etl_lease SET expires_at"),
    "give-back": Moment("postgres", r"^UPDATE etl_lease SET run_id"),
    "count": Moment("postgres", r"(?s)^INSERT INTO etl_job_counts.*VALUES"),
    "commit-finish": Moment("postgres", _FINISH),
    "forget": Moment("postgres", r"^DELETE FROM etl_runs"),
    "commit-forget": Moment("postgres", _FORGET),
}
BIGQUERY = {
    "look-dataset": Moment("bigquery", r"^GET .*/datasets/[^/]+\?", first_run=True),
    "create-dataset": Moment("bigquery", r"^POST .*/datasets\?", is_write=True, first_run=True),
    "create-summary": Moment("bigquery", r'^POST .*/tables\?.*\n.*"tableId": "event_s', is_write=True, first_run=True),
    "create-daily": Moment("bigquery", r'^POST .*/tables\?.*\n.*"tableId": "daily', is_write=True, first_run=True),
    "look-summary": Moment("bigquery", r"^GET .*/tables/event_sales_summary"),
    "guard-tickets": Moment("bigquery", rf"(?s){_JOB}.*ROW_NUMBER", first_run=False),
    "look-daily": Moment("bigquery", r"^GET .*/tables/daily_ticket_sales"),
    "stage-summary": Moment("bigquery", rf"^POST .*/tables\?.*\n.*{_ID}event", is_write=True),
    "begin-summary": Moment("bigquery", rf"^POST /upload/.*\n.*{_ID}event", is_write=True),
    "upload-summary": Moment("bigquery", r"^PUT /upload/.*\n.*total_tickets", is_write=True),
    "stage-daily": Moment("bigquery", rf"^POST .*/tables\?.*\n.*{_ID}daily", is_write=True),
    "begin-daily": Moment("bigquery", rf"^POST /upload/.*\n.*{_ID}daily", is_write=True),
    "upload-daily": Moment("bigquery", r"^PUT /upload/.*\n.*tickets_sold", is_write=True),
    "compare": Moment("bigquery", rf"(?s){_JOB}.*COUNTIF", is_write=True),
    "compared": Moment("bigquery", r"^GET .*/queries/veritix-etl-2.*-read-"),
    "merge": Moment("bigquery", rf"(?s){_JOB}.*BEGIN TRANSACTION", is_write=True),
    "merging": Moment("bigquery", r"^GET .*/queries/veritix-etl-.*-merge"),
    "reconcile": Moment("bigquery", rf"(?s){_JOB}.*IFNULL\(SUM", is_write=True),
    "drop-summary": Moment("bigquery", rf"^DELETE .*/tables/{_ID}event", is_write=True),
    "drop-daily": Moment("bigquery", rf"^DELETE .*/tables/{_ID}daily", is_write=True),
}
UPSTREAM = {
    "events-first": Moment("upstream", r"^GET /api/v1/events\s"),
    "events-middle": Moment("upstream", r"^GET /api/v1/events\?page=2\s"),
    "events-last": Moment("upstream", r"^GET /api/v1/events\?page=3\s"),
    "sales-first": Moment("upstream", r"^GET /api/v1/ticket-sales\s"),
    "sales-middle": Moment("upstream", r"^GET /api/v1/ticket-sales\?page=3\s"),
    "sales-last": Moment("upstream", r"^GET /api/v1/ticket-sales\?page=5\s"),
}
SECRET = {
    "start": Moment("secret", r"^GET /v1/.*:access"),
    "refresh": Moment("secret", r"^GET /v1/.*:access"),
}
ADMIN = {
    "settings": Moment("admin", r"^GET .*/connectSettings"),
    "certificate": Moment("admin", r"^POST .*:generateEphemeralCert"),
    "refresh-settings": Moment("admin", r"^GET .*/connectSettings"),
    "refresh-certificate": Moment("admin", r"^POST .*:generateEphemeralCert"),
}
KEPT = {
    "make-tables": Moment("postgres", r"CREATE TABLE etl_ticket_sales", first_run=True),
    "read-state": Moment("postgres", r"^SELECT etl_sales_state\.state"),
    "commit-state": Moment("postgres", r"(?s)^commit\n.*SELECT etl_sales_state\.state"),
    "keep-events": Moment("postgres", r"(?s)^\s*WITH compared AS.*INSERT INTO etl_events"),
    "commit-events": Moment("postgres", r"(?s)^commit\n.*INSERT INTO etl_events"),
    "canary": Moment("upstream", r"^GET /api/v1/ticket-sales\?filter.*limit=1", first_run=False),
    "increment": Moment("upstream", r"^GET /api/v1/ticket-sales\?filter(?!.*limit=1)", first_run=False),
    "begin-sweep": Moment("postgres", r"^DELETE FROM etl_swept_sales"),
    "sweep": Moment("upstream", r"^GET /api/v1/ticket-sales\?page=3\s"),
    "stage-sales": Moment("postgres", r"^CREATE TEMPORARY TABLE etl_staging_sales"),
    "copying-sales": Moment("postgres", r"^rows of COPY etl_staging_sales"),
    "ingest": Moment("postgres", r"(?s)^\s*WITH latest AS"),
    "note-swept": Moment("postgres", r"(?s)^\s*INSERT INTO etl_swept_sales"),
    "hold": Moment("postgres", r"(?s)^SELECT etl_lease\.fence"),
    "commit-slice": Moment("postgres", r"(?s)^commit\n.*WITH latest AS"),
    "lookup": Moment("upstream", r"^GET /api/v1/ticket-sales/\d", first_run=False),
    "delete-sales": Moment("postgres", r"(?s)^\s*WITH gone AS", first_run=False),
    "commit-deletion": Moment("postgres", r"(?s)^commit\n.*WITH gone AS", first_run=False),
    "recount": Moment("postgres", r"(?s)^SELECT\s+count\(sale_id\)"),
    "save-state": Moment("postgres", r"^INSERT INTO etl_sales_state"),
    "publish-days": Moment("postgres", r"INSERT INTO daily_ticket_sales"),
    "publish-events": Moment("postgres", r"INSERT INTO event_sales_summary"),
    "clear-pending": Moment("postgres", r"^DELETE FROM etl_pending_groups"),
    "commit-publication": Moment("postgres", r"(?s)^commit\n.*INSERT INTO daily_ticket_sales"),
    "read-pending": Moment("postgres", r"(?s)^SELECT k\.event_id, k\.sale_date, sum"),
    "merge": BIGQUERY["merge"],
    "merging": BIGQUERY["merging"],
    "commit-mark": Moment(
        "postgres", r"(?s)^commit\n(?!.*INSERT INTO daily_ticket_sales).*DELETE FROM etl_pending_groups"
    ),
}
"""Those of a run with kept sales, wherever they are."""
MOMENTS: dict[str, dict[str, Moment]] = {
    "upstream": UPSTREAM,
    "postgres": POSTGRES,
    "bigquery": BIGQUERY,
    "secret": SECRET,
    "admin": ADMIN,
    "kept": KEPT,
}

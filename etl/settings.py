"""Settings: the environment's words into one frozen, typed object. Nothing else reads the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from etl.database_url import DatabaseUrl, parse_database_url, refuse_control_characters
from etl.errors import ConfigurationError

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
DEADLINE_MARGIN_SECONDS = 10.0
"""What is kept of the platform's time-out, to end the run cleanly and answer."""


@dataclass(frozen=True)
class Settings:
    """Every setting of a run, by the lower-case name of its environment variable. Secrets don't show in `repr`."""

    nest_api_base_url: str
    nest_api_token: str | None = field(default=None, repr=False)
    nest_api_token_secret: str | None = None
    nest_api_page_size: int | None = None
    nest_api_concurrency: int = 4
    nest_api_max_pages: int = 1_000_000
    nest_api_timeout_seconds: float = 30.0
    nest_api_link_origins: tuple[str, ...] = ()
    database_url: DatabaseUrl | None = None
    instance_connection_name: str | None = None
    db_user: str | None = None
    db_pass: str | None = field(default=None, repr=False)
    db_name: str | None = None
    db_iam_auth: bool = False
    db_ip_type: str = "PUBLIC"
    bq_enabled: bool = False
    bq_project_id: str | None = None
    bq_dataset: str = "veritix"
    bq_location: str = "US"
    bq_table_event_summary: str = "event_sales_summary"
    bq_table_daily_sales: str = "daily_ticket_sales"
    bq_write_mode: str = "merge"
    nest_api_changed_query: str | None = None
    nest_api_changed_field: str | None = None
    nest_api_changed_format: str = "iso"
    etl_sales_store: str = "none"
    etl_lookback_seconds: float = 3600.0
    etl_sweep_hours: float = 24.0
    etl_max_unproved_ratio: float = 0.001
    etl_timezone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    etl_max_reject_ratio: float = 0.05
    etl_max_shrink_ratio: float = 0.5
    etl_retention_days: int = 90
    etl_deadline_seconds: float = 1750.0
    log_level: str = "INFO"
    google_cloud_project: str | None = None
    bigquery_emulator_host: str | None = None
    secret_manager_endpoint: str | None = None
    cloud_sql_admin_endpoint: str | None = None

    @property
    def uses_postgres(self) -> bool:
        """Whether PostgreSQL is a destination; DATABASE_URL wins over a Cloud SQL instance."""
        return self.database_url is not None or self.instance_connection_name is not None

    @property
    def uses_bigquery(self) -> bool:
        """Whether BigQuery is a destination."""
        return self.bq_enabled

    @property
    def stores(self) -> tuple[str, ...]:
        """The destinations, in the order in which they are loaded."""
        return ("postgres",) * self.uses_postgres + ("bigquery",) * self.uses_bigquery

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the environment; empty values count as unset.

        Raises `ConfigurationError` that lists every problem by the variable's name, without a secret's value.
        """
        given = {name: env[name].strip() for name in NAMES if env.get(name, "").strip()}
        values: dict[str, Any] = {}
        problems: list[str] = []
        for name, parse in ENVIRONMENT.items():
            if name in given:
                try:
                    values[name.lower()] = parse(given[name])
                except ValueError as error:
                    problems.append(f"{name} {error}")
        problems += _missing(given)
        platform_timeout = given.get(PLATFORM_TIMEOUT, LEAST_PLATFORM_TIMEOUT if PLATFORM_SERVICE in given else None)
        if platform_timeout and "ETL_DEADLINE_SECONDS" not in given:
            try:
                values["etl_deadline_seconds"] = _deadline_under(_seconds(platform_timeout))
            except ValueError as error:
                problems.append(f"{PLATFORM_TIMEOUT} {error}")
        if problems:
            raise ConfigurationError(
                f"{len(problems)} problem(s) in the settings: " + "; ".join(problems), problems=problems
            )
        return cls(**values)


def is_local_endpoint(endpoint: str | None) -> bool:
    """Whether an endpoint is a stand-in on this machine, to be used with anonymous credentials."""
    if endpoint is None:
        return False
    url = urlsplit(endpoint)
    return url.scheme == "http" and url.hostname in LOOPBACK_HOSTS


def _missing(given: Mapping[str, str]) -> list[str]:
    """What is wrong with the settings taken together."""
    problems = []
    if "NEST_API_BASE_URL" not in given:
        problems.append("NEST_API_BASE_URL is missing: write the upstream's address, such as https://api.example.com")
    if "NEST_API_TOKEN" in given and "NEST_API_TOKEN_SECRET" in given:
        problems.append("NEST_API_TOKEN and NEST_API_TOKEN_SECRET are both set: keep the one that holds the token")
    bigquery = given.get("BQ_ENABLED", "").lower() in TRUE
    if "DATABASE_URL" not in given and "INSTANCE_CONNECTION_NAME" not in given and not bigquery:
        problems.append(
            "no destination is set: write DATABASE_URL, or INSTANCE_CONNECTION_NAME with DB_USER and DB_NAME, "
            "or BQ_ENABLED=true with BQ_PROJECT_ID"
        )
    if "INSTANCE_CONNECTION_NAME" in given and "DATABASE_URL" not in given:
        needed = ["DB_USER", "DB_NAME"]
        if given.get("DB_IAM_AUTH", "").lower() not in TRUE:
            needed.append("DB_PASS")
        problems += [
            f"{name} is missing: INSTANCE_CONNECTION_NAME needs it"
            + (" (or DB_IAM_AUTH=true)" if name == "DB_PASS" else "")
            for name in needed
            if name not in given
        ]
    problems += _missing_for_kept_sales(given)
    if bigquery and "BQ_PROJECT_ID" not in given:
        problems.append("BQ_PROJECT_ID is missing: BQ_ENABLED=true needs it")
    return problems


def _missing_for_kept_sales(given: Mapping[str, str]) -> list[str]:
    """What is missing where sales are kept."""
    problems: list[str] = []
    if given.get("ETL_SALES_STORE", "none").lower() == "none":
        return problems
    if "DATABASE_URL" not in given and "INSTANCE_CONNECTION_NAME" not in given:
        problems.append(
            "ETL_SALES_STORE=postgres needs PostgreSQL: write DATABASE_URL, or INSTANCE_CONNECTION_NAME with DB_USER "
            "and DB_NAME"
        )
    if given.get("BQ_WRITE_MODE", "").lower() == "stream":
        problems.append(
            "BQ_WRITE_MODE=stream only appends, and kept sales publish what changed: write BQ_WRITE_MODE=merge"
        )
    return problems


def _deadline_under(platform_timeout: float) -> float:
    return max(platform_timeout - min(DEADLINE_MARGIN_SECONDS, platform_timeout / 10), 1.0)


TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")


def _boolean(text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise ValueError(f"is {text!r}: write true or false")
    return text.lower() in TRUE


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"is {text!r}: write a whole number from {low} to {high}")
        return int(text)

    return parse


def _number(low: float, high: float, what: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not low <= float(text) <= high:
            raise ValueError(f"is {text!r}: write {what} from {low:g} to {high:g}")
        return float(text)

    return parse


_seconds = _number(1, 86_400, "seconds")


def _choice(*choices: str, fold: Callable[[str], str] = str.lower) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if fold(text) not in choices:
            raise ValueError(f"is {text!r}: write one of {', '.join(choices)}")
        return fold(text)

    return parse


def _matching(pattern: str, example: str, *, show: bool = True) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(
                f"is {text!r}: write it like {example}" if show else f"is in another form: write it like {example}"
            )
        return text

    return parse


def _text(text: str) -> str:
    refuse_control_characters(text)
    return text


def read_token(text: str) -> str:
    """A bearer token, or ValueError where a header can't hold it. The message doesn't show it."""
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("has blanks or characters in it that no HTTP header can hold: copy the bare token")
    return text


def _base_url(text: str) -> str:
    # First, as what can't be read is shown, and a key often stands in a query.
    if "?" in text or "#" in text:
        raise ValueError("has a query or fragment: write it without")
    _http_url(text)
    return text.rstrip("/")


def _http_url(text: str) -> SplitResult:
    if "@" in text:
        raise ValueError("has a user or password in it: give the token as NEST_API_TOKEN or NEST_API_TOKEN_SECRET")
    try:
        url = urlsplit(text)
        readable = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        readable = False
    if not readable or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError(f"is {text!r}: write it like https://api.example.com/v1")
    return url


def _endpoint(text: str) -> str:
    text = text if "://" in text else f"http://{text}"
    if _http_url(text).scheme == "http" and not is_local_endpoint(text):
        raise ValueError(f"is {text!r}: write https://, as http:// is for stand-ins on {LOOPBACK_HOSTS[0]} only")
    return text.rstrip("/")


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
    for origin in origins:
        url = _http_url(origin)
        if url.path or url.query or url.fragment:
            raise ValueError(f"has {origin!r} in it: write origins only, such as http://10.0.0.5:3000")
    return origins


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"is {text!r}: write a name of the IANA time zone database, such as Europe/Berlin") from None


def _changed_query(text: str) -> str:
    names = [name for name, value in parse_qsl(text, keep_blank_values=True) if "{since}" in value]
    if len(names) != 1 or text.startswith(("?", "&")):
        raise ValueError(
            f"is {text!r}: write a query string with one {{since}} in a value, such as updated_after={{since}} or "
            "filter.updatedAt=$gte:{since}&sortBy=updatedAt:DESC"
        )
    return text


_bq_name = _matching(r"[A-Za-z0-9_]{1,1024}", "event_sales_summary")

PLATFORM_TIMEOUT = "CLOUD_RUN_TIMEOUT_SECONDS"
"""What Cloud Run gives a request, where it says so: its contract doesn't promise this variable."""
PLATFORM_SERVICE = "K_SERVICE"
"""Every service of Cloud Run has it, functions too."""
LEAST_PLATFORM_TIMEOUT = "60"
"""What a function is given that was deployed without a time-out. A plain service is given 300 s; nothing tells them
apart."""
ENVIRONMENT: dict[str, Callable[[str], Any]] = {
    "NEST_API_BASE_URL": _base_url,
    "NEST_API_TOKEN": read_token,
    "NEST_API_TOKEN_SECRET": _matching(
        r"projects/[^/\s]+/secrets/[A-Za-z0-9_-]{1,255}/versions/[A-Za-z0-9_-]+",
        "projects/PROJECT/secrets/NAME/versions/latest",
        show=False,  # often the token itself by mistake
    ),
    "NEST_API_PAGE_SIZE": _whole(1, 1_000_000),
    "NEST_API_CONCURRENCY": _whole(1, 64),
    "NEST_API_MAX_PAGES": _whole(1, 1_000_000_000),
    "NEST_API_TIMEOUT_SECONDS": _number(0.1, 3_600, "seconds"),
    "NEST_API_LINK_ORIGINS": _origins,
    "DATABASE_URL": parse_database_url,
    "INSTANCE_CONNECTION_NAME": _matching(r"([^:\s]+:)?[^:\s]+:[^:\s]+:[^:\s]+", "PROJECT:REGION:INSTANCE"),
    "DB_USER": _text,
    "DB_PASS": _text,
    "DB_NAME": _text,
    "DB_IAM_AUTH": _boolean,
    "DB_IP_TYPE": _choice("PUBLIC", "PRIVATE", "PSC", fold=str.upper),
    "BQ_ENABLED": _boolean,
    "BQ_PROJECT_ID": _matching(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{2,62}", "my-project-123"),
    "BQ_DATASET": _bq_name,
    "BQ_LOCATION": _matching(r"[A-Za-z0-9-]+", "EU or europe-west3"),
    "BQ_TABLE_EVENT_SUMMARY": _bq_name,
    "BQ_TABLE_DAILY_SALES": _bq_name,
    "BQ_WRITE_MODE": _choice("merge", "stream"),
    "NEST_API_CHANGED_QUERY": _changed_query,
    "NEST_API_CHANGED_FIELD": _text,
    "NEST_API_CHANGED_FORMAT": _choice("iso", "unix", "unix_ms"),
    "ETL_SALES_STORE": _choice("none", "postgres"),
    "ETL_LOOKBACK_SECONDS": _number(1, 2_592_000, "seconds"),
    "ETL_SWEEP_HOURS": _number(0, 8_760, "hours"),
    "ETL_MAX_UNPROVED_RATIO": _number(0, 1, "a share"),
    "ETL_TIMEZONE": _zone,
    "ETL_MAX_REJECT_RATIO": _number(0, 1, "a share"),
    "ETL_MAX_SHRINK_RATIO": _number(0, 1, "a share"),
    "ETL_RETENTION_DAYS": _whole(1, 36_500),
    "ETL_DEADLINE_SECONDS": _seconds,
    "LOG_LEVEL": _choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", fold=str.upper),
    "GOOGLE_CLOUD_PROJECT": _text,
    "BIGQUERY_EMULATOR_HOST": _endpoint,
    "SECRET_MANAGER_ENDPOINT": _endpoint,
    "CLOUD_SQL_ADMIN_ENDPOINT": _endpoint,
}
"""Every variable that is read, with the function that reads its text or raises ValueError.

The message of the ValueError goes on after the variable's name. No parser repeats a secret's value.
"""
NAMES = (*ENVIRONMENT, PLATFORM_TIMEOUT, PLATFORM_SERVICE)
"""Every variable that is looked at."""

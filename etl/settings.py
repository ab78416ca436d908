"""Settings: the environment's words into one frozen, typed object. Nothing else reads the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from etl.database_url import DatabaseUrl, parse_database_url, refuse_control_characters
from etl.errors import ConfigurationError

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
DEADLINE_MARGIN_SECONDS = 10.0
"""What is kept of the platform's time-out, to end the run cleanly and answer."""


def is_local_endpoint(endpoint: str | None) -> bool:
    """Whether an endpoint is a stand-in on this machine, to be used with anonymous credentials."""
    if endpoint is None:
        return False
    url = urlsplit(endpoint)
    return url.scheme == "http" and url.hostname in LOOPBACK_HOSTS


def _combined_problems(given: Mapping[str, str]) -> list[str]:
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
    problems += _kept_sales_problems(given)
    if bigquery and "BQ_PROJECT_ID" not in given:
        problems.append("BQ_PROJECT_ID is missing: BQ_ENABLED=true needs it")
    return problems


def _kept_sales_problems(given: Mapping[str, str]) -> list[str]:
    """What is wrong with them where sales are kept."""
    problems: list[str] = []
    store = given.get("ETL_SALES_STORE", "none").lower()
    if store == "none":
        return problems
    if store == "bigquery" and given.get("BQ_ENABLED", "").lower() not in TRUE:
        problems.append("ETL_SALES_STORE=bigquery needs BigQuery: write BQ_ENABLED=true and BQ_PROJECT_ID")
    if store == "postgres" and "DATABASE_URL" not in given and "INSTANCE_CONNECTION_NAME" not in given:
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


_secret_version = _matching(
    r"projects/[^/\s]+/secrets/[A-Za-z0-9_-]{1,255}/versions/[A-Za-z0-9_-]+",
    "projects/PROJECT/secrets/NAME/versions/latest",
    show=False,  # often the token itself by mistake
)
_bq_name = _matching(r"[A-Za-z0-9_]{1,1024}", "event_sales_summary")

PLATFORM_TIMEOUT = "CLOUD_RUN_TIMEOUT_SECONDS"
"""What Cloud Run gives a request, where it says so: its contract doesn't promise this variable."""
PLATFORM_SERVICE = "K_SERVICE"
"""Every service of Cloud Run has it, functions too."""
LEAST_PLATFORM_TIMEOUT = "60"
"""What a function is given that was deployed without a time-out. A plain service is given 300 s; nothing tells them
apart."""


def _setting(
    read: Callable[[str], Any],
    meaning: str,
    example: str,
    *,
    default: str | None = None,
    shown: str | None = None,
    is_secret: bool = False,
    is_required: bool = False,
) -> Any:
    """A setting. Its default is text too, and is read as any other; `shown` is what is said of it where that differs.

    `read` raises ValueError with a message that goes on after the variable's name, and repeats no secret's value.
    """
    said = "required" if is_required else shown or ("none" if default is None else f"`{default}`")
    metadata = {"read": read, "meaning": meaning, "example": example, "default": said}
    if is_required:
        return field(metadata=metadata)
    return field(default=None if default is None else read(default), repr=not is_secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Every setting of a run, by the lower-case name of its environment variable. Secrets don't show in `repr`.

    Each is declared here and nowhere else: how its text is read, what it means, an example, and its default.
    """

    nest_api_base_url: str = _setting(
        _base_url,
        "the upstream; requests go to `/events` and `/ticket-sales` below it",
        "https://api.example.com/v1",
        is_required=True,
    )
    nest_api_token: str | None = _setting(read_token, "its bearer token", "eyJhbGciOi...", is_secret=True)
    nest_api_token_secret: str | None = _setting(
        _secret_version,
        "or the Secret Manager version that holds it",
        "projects/p/secrets/s/versions/latest",
    )
    nest_api_page_size: int | None = _setting(_whole(1, 1_000_000), "sent as `limit`", "500", shown="not sent")
    nest_api_concurrency: int = _setting(
        _whole(1, 64), "pages fetched at once, if the upstream declares page count and total", "8", default="4"
    )
    nest_api_max_pages: int = _setting(
        _whole(1, 1_000_000_000), "a run fails if a list has more pages", "5000", default="1000000"
    )
    nest_api_timeout_seconds: float = _setting(
        _number(0.1, 3_600, "seconds"), "time limit to connect, and between bytes", "10", default="30"
    )
    nest_api_changed_query: str | None = _setting(
        _changed_query,
        "with kept sales: asks `/ticket-sales` for [what changed](docs/increments.md)",
        "updated_after={since}",
    )
    nest_api_changed_field: str | None = _setting(
        _text, "key of a sale's time of change, if it isn't `updatedAt` or the like", "lastModified"
    )
    nest_api_changed_format: str = _setting(
        _choice("iso", "unix", "unix_ms"), "how `{since}` is written: `iso`, `unix`, `unix_ms`", "unix", default="iso"
    )
    nest_api_link_origins: tuple[str, ...] = _setting(
        _origins,
        "further origins that the upstream's links may name",
        "http://10.0.0.5:3000",
        default="",
        shown="none",
    )
    database_url: DatabaseUrl | None = _setting(
        parse_database_url,
        "PostgreSQL; takes precedence over the Cloud SQL settings",
        "postgresql://etl:pw@db:5432/veritix",
    )
    instance_connection_name: str | None = _setting(
        _matching(r"([^:\s]+:)?[^:\s]+:[^:\s]+:[^:\s]+", "PROJECT:REGION:INSTANCE"),
        "Cloud SQL instance, through the connector",
        "p:europe-west1:veritix",
    )
    db_user: str | None = _setting(_text, "its user", "etl@p.iam")
    db_pass: str | None = _setting(_text, "its password, unless `DB_IAM_AUTH`", "pw", is_secret=True)
    db_name: str | None = _setting(_text, "its database", "veritix")
    db_iam_auth: bool = _setting(_boolean, "log in as the function's account", "true", default="false")
    db_ip_type: str = _setting(
        _choice("PUBLIC", "PRIVATE", "PSC", fold=str.upper), "`PUBLIC`, `PRIVATE` or `PSC`", "PRIVATE", default="PUBLIC"
    )
    bq_enabled: bool = _setting(_boolean, "load BigQuery too", "true", default="false")
    bq_project_id: str | None = _setting(
        _matching(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{2,62}", "my-project-123"), "its project", "my-project"
    )
    bq_dataset: str = _setting(_bq_name, "its dataset", "ticketing", default="veritix")
    bq_location: str = _setting(
        _matching(r"[A-Za-z0-9-]+", "EU or europe-west3"),
        "the dataset's location; a run creates a missing dataset there",
        "EU",
        default="US",
    )
    bq_table_event_summary: str = _setting(_bq_name, "table name", "event_sales", default="event_sales_summary")
    bq_table_daily_sales: str = _setting(_bq_name, "table name", "daily_sales", default="daily_ticket_sales")
    bq_write_mode: str = _setting(
        _choice("merge", "stream"),
        "`merge`, or `stream`, which appends rows at each run, as the earlier Veritix ETL did",
        "stream",
        default="merge",
    )
    bq_table_ticket_sales: str = _setting(
        _bq_name, "table name, if BigQuery keeps the sales", "kept_sales", default="etl_ticket_sales"
    )
    bq_partition_by: str = _setting(
        _choice("day", "month"), "partitions of tables that a run makes: `day` or `month`", "month", default="day"
    )
    etl_sales_store: str = _setting(
        _choice("none", "postgres", "bigquery"),
        "where [sales are kept](docs/increments.md): `none`, `postgres`, `bigquery`",
        "postgres",
        default="none",
    )
    etl_lookback_seconds: float = _setting(
        _number(1, 2_592_000, "seconds"), "how far before the last one an increment begins", "7200", default="3600"
    )
    etl_sweep_hours: float = _setting(
        _number(0, 8_760, "hours"), "hours between sweeps of the whole list; `0`: each run", "6", default="24"
    )
    etl_max_unproved_ratio: float = _setting(
        _number(0, 1, "a share"),
        "share of sales that may be gone upstream until the next sweep",
        "0.01",
        default="0.001",
    )
    etl_timezone: ZoneInfo = _setting(
        _zone, "the time zone that decides a sale's calendar day", "Europe/Berlin", default="UTC"
    )
    etl_max_reject_ratio: float = _setting(
        _number(0, 1, "a share"),
        "a run fails if more than this share of records is unusable, from 11 records on",
        "0.01",
        default="0.05",
    )
    etl_max_shrink_ratio: float = _setting(
        _number(0, 1, "a share"),
        "a run fails if tickets or revenue fall by more than this share, from 11 tickets on",
        "0.2",
        default="0.5",
    )
    etl_retention_days: int = _setting(
        _whole(1, 36_500), "days that the ledger keeps runs and rejected records", "30", default="90"
    )
    etl_deadline_seconds: float = _setting(
        _seconds,
        "time limit of the whole run",
        "540",
        default="1750",
        shown="just under `CLOUD_RUN_TIMEOUT_SECONDS`; if unset `54` on Cloud Run, `1750` elsewhere",
    )
    log_level: str = _setting(
        _choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", fold=str.upper),
        "`DEBUG`, `INFO`, `WARNING`, `ERROR`, `CRITICAL`",
        "WARNING",
        default="INFO",
    )
    google_cloud_project: str | None = _setting(_text, "the project in trace names", "my-project")
    bigquery_emulator_host: str | None = _setting(
        _endpoint, "another BigQuery endpoint", "http://127.0.0.1:9050", shown="Google's"
    )
    secret_manager_endpoint: str | None = _setting(
        _endpoint, "another Secret Manager endpoint", "http://127.0.0.1:9060", shown="Google's"
    )
    cloud_sql_admin_endpoint: str | None = _setting(
        _endpoint, "another Cloud SQL Admin endpoint", "http://127.0.0.1:9070", shown="Google's"
    )

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
        problems += _combined_problems(given)
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


ENVIRONMENT: dict[str, Callable[[str], Any]] = {one.name.upper(): one.metadata["read"] for one in fields(Settings)}
"""Every variable that is read, with the function that reads its text or raises ValueError."""
NAMES = (*ENVIRONMENT, PLATFORM_TIMEOUT, PLATFORM_SERVICE)
"""Every variable that is looked at."""

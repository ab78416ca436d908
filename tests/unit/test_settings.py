"""The environment becomes one typed object, or one error that names every problem and shows no secret."""

import re
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from etl.database_url import DatabaseUrl
from etl.errors import ConfigurationError
from etl.settings import ENVIRONMENT, PLATFORM_SERVICE, PLATFORM_TIMEOUT, Settings, is_local_endpoint, read_token

BASE = {"NEST_API_BASE_URL": "https://api.example.com", "DATABASE_URL": "postgresql://etl:pw@db/sales"}
SECRET = "s3cret"
URL = DatabaseUrl(host="db", port=5432, user="etl", password="pw", database="sales")


def problems_of(**env: str) -> list[str]:
    """The problems of an environment, as the error tells them."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(env)
    problems: list[str] = caught.value.details["problems"]
    assert str(caught.value) == f"{len(problems)} problem(s) in the settings: " + "; ".join(problems)
    return problems


def test_defaults() -> None:
    """Everything but the upstream and a destination has a default: this one."""
    assert Settings.from_env(BASE) == Settings(
        nest_api_base_url="https://api.example.com",
        nest_api_token=None,
        nest_api_token_secret=None,
        nest_api_page_size=None,
        nest_api_concurrency=4,
        nest_api_max_pages=1_000_000,
        nest_api_timeout_seconds=30.0,
        nest_api_link_origins=(),
        database_url=URL,
        instance_connection_name=None,
        db_user=None,
        db_pass=None,
        db_name=None,
        db_iam_auth=False,
        db_ip_type="PUBLIC",
        bq_enabled=False,
        bq_project_id=None,
        bq_dataset="veritix",
        bq_location="US",
        bq_table_event_summary="event_sales_summary",
        bq_table_daily_sales="daily_ticket_sales",
        bq_write_mode="merge",
        etl_timezone=ZoneInfo("UTC"),
        etl_max_reject_ratio=0.05,
        etl_max_shrink_ratio=0.5,
        etl_retention_days=90,
        etl_deadline_seconds=1750.0,
        log_level="INFO",
        google_cloud_project=None,
        bigquery_emulator_host=None,
        secret_manager_endpoint=None,
        cloud_sql_admin_endpoint=None,
    )


BOOLEANS = [*((text, True) for text in ("true", "TRUE", "1", "yes", "on")), *((t, False) for t in ("false", "0", "No"))]
ENDPOINTS = [
    ("http://127.0.0.1:9050", "http://127.0.0.1:9050"),
    ("localhost:9050", "http://localhost:9050"),
    ("http://[::1]:9050/", "http://[::1]:9050"),
    ("https://private.example.com/", "https://private.example.com"),
]
BAD_ENDPOINTS = [
    "http://private.example.com",
    "private:9050",
    "ftp://127.0.0.1",
    "http://",
    "http://127.0.0.1.evil.com",
]
NAMES = [("a_B9", "a_B9"), ("x" * 1024, "x" * 1024)]
BAD_NAMES = ["a-b", "a.b", "a b", "a`", "a;drop", "x" * 1025]
VARIABLES: dict[str, tuple[list[tuple[str, Any]], list[str]]] = {
    "NEST_API_BASE_URL": (
        [
            ("https://api.example.com/", "https://api.example.com"),
            ("http://localhost:3000/v1/", "http://localhost:3000/v1"),
            (" https://api.example.com/v1 \n", "https://api.example.com/v1"),
            ("HTTPS://API.example.com", "HTTPS://API.example.com"),
        ],
        [
            *("api.example.com", "ftp://api.example.com", "https://", "https:///v1", "https://api.example.com:0"),
            *(
                "https://api.example.com:port",
                "https://[::1",
                "https://api.example.com/?a=1",
                "https://a.example#x",
                "https://a.example?",
            ),
            *(
                "https://user:pw@api.example.com",
                "https://@api.example.com",
                "https://api .example.com",
                "https://a\nb.c",
            ),
        ],
    ),
    "NEST_API_TOKEN": ([("eyJh.b-c_d~e+f/g=", "eyJh.b-c_d~e+f/g="), (" t\n", "t")], ["a b", "a\nb", "tökén", "\x7f"]),
    "NEST_API_TOKEN_SECRET": (
        [(f"projects/p-1/secrets/s_1/versions/{v}",) * 2 for v in ("latest", "7", "alias-1")],
        ["s_1", "projects/p/secrets/s", "projects/p/secrets/s/versions/", "projects//secrets/s/versions/1", "/x"],
    ),
    "NEST_API_PAGE_SIZE": ([("1", 1), ("1000000", 1_000_000)], ["0", "-1", "1.5", "many", "1000001", "1e3", "٣"]),
    "NEST_API_CONCURRENCY": ([("1", 1), ("64", 64)], ["0", "65", "four"]),
    "NEST_API_MAX_PAGES": ([("1", 1), ("1000000000", 10**9)], ["0", "1000000001", "9" * 40]),
    "NEST_API_TIMEOUT_SECONDS": ([("0.5", 0.5), ("3600", 3600.0)], ["0", "-1", "3601", "nan", "inf", "30s", "1e1"]),
    "NEST_API_LINK_ORIGINS": (
        [
            ("http://10.0.0.5:3000", ("http://10.0.0.5:3000",)),
            (" http://a/ , https://b:8443 ,", ("http://a", "https://b:8443")),
        ],
        ["10.0.0.5:3000", "http://a/v1", "http://a?x", "http://a,b", "http://user:pw@a", "http://a#x"],
    ),
    "DATABASE_URL": (
        [(f"{scheme}://etl:pw@db/sales", URL) for scheme in ("postgresql", "postgres", "postgresql+pg8000")],
        ["mysql://etl:pw@db/sales", "postgresql+psycopg2://etl:pw@db/sales", "db", "postgresql://db/sales?x=1"],
    ),
    "INSTANCE_CONNECTION_NAME": (
        [("p:europe-west3:i",) * 2, ("example.com:p:europe-west3:i",) * 2],
        ["p:i", "instance", "p::i", "p:r:i i", "a:b:p:r:i"],
    ),
    "DB_USER": ([("etl",) * 2, ("sa@project.iam",) * 2], ["a\nb", "a\0"]),
    "DB_PASS": ([("p@ss w/rd",) * 2], ["a\nb"]),
    "DB_NAME": ([("sales",) * 2], ["a\tb"]),
    "DB_IAM_AUTH": (BOOLEANS, ["yes please", "2", "t"]),
    "DB_IP_TYPE": ([("PRIVATE", "PRIVATE"), ("psc", "PSC"), ("Public", "PUBLIC")], ["EXTERNAL", "PRIVATE_IP"]),
    "BQ_ENABLED": (BOOLEANS, ["yes please", "enabled"]),
    "BQ_PROJECT_ID": (
        [("my-project-123",) * 2, ("example.com:my-project",) * 2],
        ["My-Project", "1project", "p", "a/b", "a b", "p`; DROP"],
    ),
    "BQ_DATASET": (NAMES, BAD_NAMES),
    "BQ_LOCATION": ([("EU",) * 2, ("europe-west3",) * 2], ["europe west3", "EU;", "EU/x"]),
    "BQ_TABLE_EVENT_SUMMARY": (NAMES, BAD_NAMES),
    "BQ_TABLE_DAILY_SALES": (NAMES, BAD_NAMES),
    "BQ_TABLE_TICKET_SALES": (NAMES, BAD_NAMES),
    "BQ_PARTITION_BY": ([("day",) * 2, ("Month", "month")], ["week", "none"]),
    "BQ_WRITE_MODE": ([("merge",) * 2, ("STREAM", "stream")], ["append", "streaming"]),
    "NEST_API_CHANGED_QUERY": (
        [(query,) * 2 for query in ("updated_after={since}", "filter=updatedAt||$gte||{since}&sort=updatedAt,DESC")],
        ["updated_after=", "{since}=x", "?since={since}", "a={since}&b={since}"],
    ),
    "NEST_API_CHANGED_FIELD": ([("lastModified",) * 2], ["a\nb"]),
    "NEST_API_CHANGED_FORMAT": ([("ISO", "iso"), ("unix_ms",) * 2], ["rfc", "seconds"]),
    "ETL_SALES_STORE": ([("none",) * 2, ("Postgres", "postgres")], ["mysql", "BQ", "true"]),
    "ETL_LOOKBACK_SECONDS": ([("1", 1.0), ("3600", 3600.0)], ["0", "an hour", "-1", "2592001"]),
    "ETL_SWEEP_HOURS": ([("0", 0.0), ("6.5", 6.5)], ["-1", "daily", "8761"]),
    "ETL_MAX_UNPROVED_RATIO": ([("0", 0.0), ("0.001", 0.001)], ["2", "few"]),
    "ETL_TIMEZONE": (
        [("Europe/Berlin", ZoneInfo("Europe/Berlin")), ("UTC", ZoneInfo("UTC"))],
        ["Mars/Olympus", "Europe", "../UTC", "/etc/localtime", "UTC+1", "a\0b"],
    ),
    "ETL_MAX_REJECT_RATIO": ([("0", 0.0), ("0.05", 0.05), ("1", 1.0)], ["-0.1", "1.1", "5%", "nan", ".5", "0,05"]),
    "ETL_MAX_SHRINK_RATIO": ([("0", 0.0), ("0.999", 0.999), ("1", 1.0)], ["2", "half", "inf"]),
    "ETL_RETENTION_DAYS": ([("1", 1), ("365", 365), ("36500", 36_500)], ["0", "-1", "1.5", "36501", "for ever"]),
    "ETL_DEADLINE_SECONDS": ([("1", 1.0), ("86400", 86_400.0), ("90.5", 90.5)], ["0", "0.5", "86401", "soon", "-1"]),
    "LOG_LEVEL": ([("debug", "DEBUG"), ("WARNING", "WARNING"), ("Critical", "CRITICAL")], ["TRACE", "10", "WARN"]),
    "GOOGLE_CLOUD_PROJECT": ([("my-project",) * 2], ["a\nb"]),
    "BIGQUERY_EMULATOR_HOST": (ENDPOINTS, BAD_ENDPOINTS),
    "SECRET_MANAGER_ENDPOINT": (ENDPOINTS, BAD_ENDPOINTS),
    "CLOUD_SQL_ADMIN_ENDPOINT": (ENDPOINTS, BAD_ENDPOINTS),
}
GOOD = [(name, text, value) for name, (good, _) in VARIABLES.items() for text, value in good]
BAD = [(name, text) for name, (_, bad) in VARIABLES.items() for text in bad]


def test_every_variable_is_tried() -> None:
    """The table above has every variable that the program reads, and no other."""
    assert ENVIRONMENT.keys() == VARIABLES.keys()
    assert {name.lower() for name in ENVIRONMENT} == Settings.__dataclass_fields__.keys()


@pytest.mark.parametrize(
    ("name", "text", "value"), [pytest.param(*case, id=f"{case[0]}={case[1][:40]!r}") for case in GOOD]
)
def test_good_values(name: str, text: str, value: object) -> None:
    """A value is read into its type; blanks around it don't count."""
    env = {**BASE, "BQ_PROJECT_ID": "my-project", name: text}
    assert getattr(Settings.from_env(env), name.lower()) == value
    assert getattr(Settings.from_env({**env, name: f" {text}\n"}), name.lower()) == value


@pytest.mark.parametrize(("name", "text"), [pytest.param(*case, id=f"{case[0]}={case[1][:40]!r}") for case in BAD])
def test_bad_values(name: str, text: str) -> None:
    """A value that can't be right is one problem, which begins with the variable's name and says what to write."""
    (problem,) = [found for found in problems_of(**{**BASE, name: text}) if "no destination" not in found]
    assert re.match(rf"{name} (is|has|names|can't) ", problem)
    assert re.search(r"write|known are|copy|give|percent-encode", problem)


def test_empty_values_are_unset() -> None:
    """An empty or blank variable counts as unset: Terraform and compose files often give one."""
    assert Settings.from_env({**dict.fromkeys(ENVIRONMENT, " "), PLATFORM_TIMEOUT: "", **BASE}) == Settings.from_env(
        BASE
    )


BIGQUERY = {"BQ_ENABLED": "true", "BQ_PROJECT_ID": "my-project"}
CLOUD_SQL = {"INSTANCE_CONNECTION_NAME": "p:r:i", "DB_USER": "u", "DB_NAME": "d"}
DESTINATIONS = [
    pytest.param({"DATABASE_URL": BASE["DATABASE_URL"]}, (True, False), id="DATABASE_URL"),
    pytest.param({**CLOUD_SQL, "DB_PASS": "pw"}, (True, False), id="instance with password"),
    pytest.param({**CLOUD_SQL, "DB_IAM_AUTH": "true"}, (True, False), id="instance with IAM"),
    pytest.param(BIGQUERY, (False, True), id="BigQuery"),
    pytest.param({**BIGQUERY, "DATABASE_URL": BASE["DATABASE_URL"]}, (True, True), id="both"),
    pytest.param({"DATABASE_URL": BASE["DATABASE_URL"], **CLOUD_SQL}, (True, False), id="DATABASE_URL wins"),
    pytest.param(
        {"DATABASE_URL": BASE["DATABASE_URL"], "BQ_PROJECT_ID": "my-project"}, (True, False), id="not enabled"
    ),
]


@pytest.mark.parametrize(("env", "uses"), DESTINATIONS)
def test_destinations(env: dict[str, str], uses: tuple[bool, bool]) -> None:
    """PostgreSQL, BigQuery or both are destinations, as they are named."""
    settings = Settings.from_env({"NEST_API_BASE_URL": "https://api.example.com", **env})
    assert (settings.uses_postgres, settings.uses_bigquery) == uses


MISSING: list[Any] = [
    pytest.param({}, ["NEST_API_BASE_URL", "no destination"], id="nothing at all"),
    pytest.param({"DATABASE_URL": BASE["DATABASE_URL"]}, ["NEST_API_BASE_URL"], id="no upstream"),
    pytest.param({"NEST_API_BASE_URL": "http://a"}, ["no destination"], id="no destination"),
    pytest.param({**BASE, "BQ_ENABLED": "true"}, ["BQ_PROJECT_ID"], id="BigQuery without project"),
    pytest.param(
        {"NEST_API_BASE_URL": "http://a", "INSTANCE_CONNECTION_NAME": "p:r:i"},
        ["DB_USER", "DB_NAME", "DB_PASS"],
        id="instance without login",
    ),
    pytest.param(
        {"NEST_API_BASE_URL": "http://a", "INSTANCE_CONNECTION_NAME": "p:r:i", "DB_IAM_AUTH": "1"},
        ["DB_USER", "DB_NAME"],
        id="instance with IAM",
    ),
    pytest.param(
        {**BASE, "NEST_API_TOKEN": "t", "NEST_API_TOKEN_SECRET": "projects/p/secrets/s/versions/1"},
        ["NEST_API_TOKEN and NEST_API_TOKEN_SECRET"],
        id="two tokens",
    ),
    pytest.param(
        {"NEST_API_CONCURRENCY": "0", "ETL_TIMEZONE": "Mars", "BQ_ENABLED": "maybe", PLATFORM_TIMEOUT: "soon"},
        ["NEST_API_CONCURRENCY", "BQ_ENABLED", "ETL_TIMEZONE", "NEST_API_BASE_URL", "no destination", PLATFORM_TIMEOUT],
        id="all at once",
    ),
]


@pytest.mark.parametrize(("env", "expected"), MISSING)
def test_every_problem_is_told_at_once(env: dict[str, str], expected: list[str]) -> None:
    """One error lists all that is missing or wrong, each by its name."""
    found = problems_of(**env)
    assert len(found) == len(expected)
    assert all(problem.startswith(start) for problem, start in zip(found, expected, strict=True))


SECRETS = [
    pytest.param({"NEST_API_TOKEN": f"{SECRET} {SECRET}"}, id="token with a blank"),
    pytest.param({"NEST_API_TOKEN_SECRET": f"eyJhbGciOi.{SECRET}"}, id="token in the place of its name"),
    pytest.param({"DB_PASS": f"{SECRET}\n{SECRET}"}, id="password with a line break"),
    pytest.param({"DATABASE_URL": f"mysql://u:{SECRET}@h/d"}, id="another database"),
    pytest.param({"DATABASE_URL": f"postgresql://u:{SECRET}@h/d?sslmode=on"}, id="bad parameter"),
    pytest.param({"DATABASE_URL": f"postgresql://u:p@ss?{SECRET}@h/d"}, id="password that isn't encoded"),
    pytest.param({"DATABASE_URL": SECRET}, id="no URL"),
    pytest.param({"NEST_API_BASE_URL": f"https://u:{SECRET}@api.example.com"}, id="upstream with a password"),
    pytest.param({"NEST_API_BASE_URL": f"u:{SECRET}@api.example.com"}, id="upstream with a password, no scheme"),
    pytest.param({"NEST_API_BASE_URL": f"https://api.example.com/?key={SECRET}"}, id="upstream with a key"),
    pytest.param({"NEST_API_BASE_URL": f"api.example.com/?key={SECRET}"}, id="upstream with a key, no scheme"),
    pytest.param({"NEST_API_LINK_ORIGINS": f"http://u:{SECRET}@a"}, id="origin with a password"),
    pytest.param({"BIGQUERY_EMULATOR_HOST": f"http://u:{SECRET}@localhost"}, id="endpoint with a password"),
]


@pytest.mark.parametrize("env", SECRETS)
def test_errors_show_no_secret(env: dict[str, str]) -> None:
    """A problem names its variable, and shows neither a token nor a password, not even one in a wrong place."""
    found = problems_of(**{**BASE, **env})
    assert any(problem.startswith(next(iter(env))) for problem in found)
    assert SECRET not in str(found)


def test_repr_shows_no_secret() -> None:
    """Settings can be logged."""
    env = {**BASE, "NEST_API_TOKEN": SECRET, "DB_PASS": SECRET, "DATABASE_URL": f"postgresql://u:{SECRET}@h/d"}
    settings = Settings.from_env(env)
    assert (settings.nest_api_token, settings.db_pass) == (SECRET, SECRET)
    assert SECRET not in f"{settings!r}{settings}{settings.database_url!r}{settings.database_url}"
    assert "u" in repr(settings.database_url)


DEADLINES = [
    pytest.param({}, 1750.0, id="default"),
    pytest.param({PLATFORM_TIMEOUT: "1800"}, 1790.0, id="10 s under the platform's"),
    pytest.param({PLATFORM_TIMEOUT: "100"}, 90.0, id="a tenth under the platform's"),
    pytest.param({PLATFORM_TIMEOUT: "60"}, 54.0, id="a minute"),
    pytest.param({PLATFORM_TIMEOUT: "5"}, 4.5, id="short"),
    pytest.param({PLATFORM_TIMEOUT: "60", "ETL_DEADLINE_SECONDS": "40"}, 40.0, id="a deadline of its own"),
    pytest.param({PLATFORM_SERVICE: "veritix-etl"}, 54.0, id="Cloud Run doesn't say: under a function's default"),
    pytest.param({PLATFORM_SERVICE: "etl", PLATFORM_TIMEOUT: " "}, 54.0, id="Cloud Run says nothing"),
    pytest.param({PLATFORM_SERVICE: "etl", PLATFORM_TIMEOUT: "1740"}, 1730.0, id="Cloud Run says"),
    pytest.param({PLATFORM_SERVICE: "etl", "ETL_DEADLINE_SECONDS": "1710"}, 1710.0, id="Cloud Run, a deadline given"),
    pytest.param({PLATFORM_SERVICE: " "}, 1750.0, id="no name of a service"),
    pytest.param({"FUNCTION_TARGET": "run_etl", "PORT": "8080"}, 1750.0, id="functions-framework on a laptop"),
    pytest.param({PLATFORM_TIMEOUT: "soon", "ETL_DEADLINE_SECONDS": "40"}, 40.0, id="the platform's isn't looked at"),
]


@pytest.mark.parametrize(("env", "seconds"), DEADLINES)
def test_deadline(env: dict[str, str], seconds: float) -> None:
    """The run's deadline is its own setting, else just under the platform's time-out."""
    assert Settings.from_env({**BASE, **env}).etl_deadline_seconds == seconds


LOCAL = [
    (None, False),
    ("http://127.0.0.1:9050", True),
    ("http://localhost", True),
    ("http://[::1]:1", True),
    ("https://127.0.0.1:9050", False),
    ("http://127.0.0.1@example.com", False),
    ("http://localhost.example.com", False),
]


@pytest.mark.parametrize(("endpoint", "expected"), LOCAL)
def test_local_endpoints(endpoint: str | None, expected: bool) -> None:
    """Only plain HTTP to this machine is a stand-in, which gets no credentials."""
    assert is_local_endpoint(endpoint) is expected


def test_token_of_a_secret() -> None:
    """A token from anywhere is held to what a header can carry, and the error doesn't show it."""
    assert read_token("eyJ.a-b") == "eyJ.a-b"
    for text in ("", f"{SECRET}\n", f"Bearer {SECRET}", f"{SECRET}é"):
        with pytest.raises(ValueError, match="no HTTP header can hold") as caught:
            read_token(text)
        assert SECRET not in str(caught.value)

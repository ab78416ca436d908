"""SECURITY.md says what is so, and what it promises of secrets is kept."""

import json
import re
import shutil
import ssl
import subprocess
import tempfile
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest

from etl.errors import EtlError, UpstreamError
from etl.load.postgres.database import engine_for
from etl.logs import configure_logs
from etl.run.pipeline import run_etl_once
from etl.settings import Settings
from tests import ROOT
from tests.doubles.certificates import HOUR, CertificateAuthority
from tests.doubles.cloud_sql import CloudSqlStandIn
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support.markdown import code, functions_of, missing_tests, table
from tests.support.upstream import json_logs, read_all

SECURITY = ROOT / "SECURITY.md"
PROTECTED = table(SECURITY, "what", "from whom", "what stops them", "held by")
TOKEN, PASSWORD = "t0ken-4c19", "p@ss-w0rd/7be2"


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row[0]}, {row[1]}") for row in PROTECTED])
def test_each_promise_names_the_tests_that_hold_it(row: tuple[str, ...]) -> None:
    """Every row of what is protected names a test or more, and there are tests of these names."""
    named = [held.split("::") for held in code(row[3]) if "::" in held]
    assert named
    assert [(path, name) for path, name in named if name not in functions_of(ROOT / path)] == []


def test_no_other_test_is_named() -> None:
    """Tests that the rest of the page names are there as well."""
    assert missing_tests(SECURITY.read_text(), ROOT) == []


def test_roles_are_those_that_terraform_grants() -> None:
    """The page lists every role that terraform/ names; that each account has its own, the plans tell."""
    listed = {role for _, roles, _ in table(SECURITY, "account", "role", "on") for role in code(roles)}
    terraform = "".join(path.read_text() for path in (ROOT / "terraform").glob("*.tf"))
    assert listed == set(re.findall(r'"(roles/[\w.]+)"', terraform))


def test_the_waived_rules_are_those_that_are_told() -> None:
    """The security linter is on everywhere, and in the program overlooks only what the page says."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert [rule for rule in lint["ignore"] if re.fullmatch(r"S\d*", rule)] == []
    program = [path.relative_to(ROOT).as_posix() for path in (ROOT / "main.py", *(ROOT / "etl").rglob("*.py"))]
    waived = {(rule, path) for path in program for rule in lint["per-file-ignores"].get(path, [])}
    waived |= {(rule, path) for path in program for rule in re.findall(r"# noqa: (\w+)", (ROOT / path).read_text())}
    assert {(rule, path) for rule, path in waived if re.fullmatch(r"S\d+", rule)} == {
        ("S105", "etl/load/postgres/cloud_sql.py"),
        ("S704", "etl/views/page.py"),
        *(
            ("S608", f"etl/{name}.py")
            for name in (
                "load/bigquery/sql",
                "load/postgres/load",
                "load/postgres/read",
                "run/ledger",
                "run/retention",
                "sales/bigquery/sql",
                "sales/postgres/publication",
                "sales/postgres/store",
                "views/rejects",
            )
        ),
    }
    assert set(lint["per-file-ignores"]) <= {"tests/**", *program}


HOLD_SECRETS = ["my.env", ".env", ".env.production", "deploy/prod.env", ".envrc"]
HOLD_SECRETS += [f"terraform/{name}" for name in ("terraform.tfvars", "x.auto.tfvars", "terraform.tfstate.backup")]
HOLD_NONE = ["main.py", "etl/settings.py", "terraform/terraform.tfvars.example", "terraform/.terraform.lock.hcl"]


def test_git_ignores_files_that_hold_secrets(tmp_path: Path) -> None:
    """Environments, inputs and state of whatever name are left out of a commit, and nothing else is."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    command = ["git", "-C", str(tmp_path), "check-ignore", *HOLD_SECRETS, *HOLD_NONE]
    ignored = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert ignored == HOLD_SECRETS


UPSTREAMS = [
    pytest.param("right", ["127.0.0.1"], HOUR, True, id="trusted"),
    pytest.param("wrong", ["127.0.0.1"], HOUR, False, id="of another authority"),
    pytest.param("right", ["api.example.com"], HOUR, False, id="for another host"),
    pytest.param("right", ["127.0.0.1"], -HOUR, False, id="expired"),
]


@pytest.mark.parametrize(("authority", "hosts", "lifetime", "is_trusted"), UPSTREAMS)
def test_the_token_is_not_sent_to_an_upstream_that_is_not_trusted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    authority: str,
    hosts: list[str],
    lifetime: timedelta,
    is_trusted: bool,
) -> None:
    """No request leaves before the certificate is verified: its authority, its host and its time."""
    authorities = {name: CertificateAuthority(name) for name in ("right", "wrong")}
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authorities["right"].write(tmp_path / "ca.pem")))
    tls: ssl.SSLContext = authorities[authority].server_context("upstream", hosts, lifetime=lifetime)
    with TicketingApi(sales=plain_sales(3), token=TOKEN, tls=tls) as upstream:
        if is_trusted:
            assert len(read_all(upstream.base_url, token=TOKEN).records) == 3
            assert [request.headers["authorization"] for request in upstream.requests] == [f"Bearer {TOKEN}"]
        else:
            with pytest.raises(UpstreamError, match="TLS certificate isn't trusted") as caught:
                read_all(upstream.base_url, token=TOKEN)
            assert TOKEN not in str(caught.value)
            assert upstream.requests == []


MISHAPS = [
    pytest.param({}, None, None, id="none"),
    pytest.param({"DB_PASS": f"{PASSWORD}-wrong"}, None, "28P01", id="wrong password"),
    pytest.param({}, 403, "cloudsql.client", id="refused by the Admin API"),
    pytest.param({"DB_NAME": "missing"}, None, "3D000", id="no such database"),
]


@pytest.mark.parametrize(("changed", "fault", "said"), MISHAPS)
def test_no_secret_of_cloud_sql_gets_out(
    postgres_server: EmbeddedPostgres,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str],
    fault: int | None,
    said: str | None,
) -> None:
    """Neither password, token, key nor certificate is in log, error, ledger or `repr`; no temporary file stays."""
    database = database_url.partition("@/")[2].partition("?")[0]
    user = f"user of {database}"
    postgres_server.create_role(user, PASSWORD)
    postgres_server.run(f'ALTER DATABASE "{database}" OWNER TO "{user}"')
    with json_logs(), CloudSqlStandIn(postgres_server) as cloud_sql, TicketingApi(token=TOKEN) as upstream:
        upstream.events, upstream.sales = plain_events(3), plain_sales(9)
        settings = Settings.from_env(
            {
                "NEST_API_BASE_URL": upstream.base_url,
                "NEST_API_TOKEN": TOKEN,
                "INSTANCE_CONNECTION_NAME": cloud_sql.instance_connection_name,
                "DB_USER": user,
                "DB_PASS": PASSWORD,
                "DB_NAME": database,
                "CLOUD_SQL_ADMIN_ENDPOINT": cloud_sql.admin_endpoint,
                **changed,
            }
        )
        if fault is not None:
            cloud_sql.fail(fault, times=2)
        configure_logs("DEBUG")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        before = tmp_path.stat().st_mtime_ns
        try:
            shown = json.dumps(run_etl_once(settings).to_json(), default=str)
            shown += str(postgres_server.run("SELECT r::text FROM etl_runs r", database))
        except EtlError as error:
            shown = f"{error}{error.details}"
        shown += f"{settings!r}{engine_for(settings)!r}{engine_for(settings).url}{engine_for(settings).pool!r}"
        engine_for(settings).dispose()
    shown += "".join(capsys.readouterr())
    assert (said or "ETL job completed") in shown
    secrets = (PASSWORD, PASSWORD.partition("/")[2], TOKEN, "Bearer", "PRIVATE KEY", "BEGIN CERTIFICATE", "Traceback")
    assert [secret for secret in secrets if secret in shown] == []
    assert list(tmp_path.iterdir()) == []
    assert (tmp_path.stat().st_mtime_ns > before) == (fault is None)  # the key's folder has been there


def test_an_engine_shows_no_password(postgres_server: EmbeddedPostgres) -> None:
    """Whatever of it is put into a text."""
    engine = engine_for(
        Settings.from_env(
            {
                "NEST_API_BASE_URL": "http://upstream",
                "DATABASE_URL": postgres_server.tcp_url("db", "user", PASSWORD),
            }
        )
    )
    assert engine.url.password == PASSWORD
    assert "user:***@" in repr(engine)
    assert PASSWORD.partition("/")[2] not in f"{engine!r}{engine}{engine.url!r}{engine.url}{engine.pool!r}"

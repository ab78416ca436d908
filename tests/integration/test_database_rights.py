"""Whole runs work with the rights that Terraform and SECURITY.md give their database user, and with none fewer."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
import sqlalchemy as sa

from etl.errors import EtlError
from etl.run import ledger_tables
from etl.run.pipeline import RunOptions, run_etl_once
from etl.run.report import RunReport
from etl.sales.postgres import tables as sales_tables
from etl.settings import Settings
from tests import ROOT
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.sample_data import plain_events, plain_sales
from tests.support import earlier_ledger
from tests.support.earlier_ledger import run_row
from tests.support.function import Function
from tests.support.markdown import code, table
from tests.support.oracle import postgres_tables, wanted_tables

TERRAFORM_README = ROOT / "terraform" / "README.md"
NARROWED = re.findall(r"^(?:CREATE ROLE|GRANT) .*;$", TERRAFORM_README.read_text(), re.MULTILINE)
"""The statements by which the role is narrowed, as an operator copies them."""
SECURITY = ROOT / "SECURITY.md"


def listed(heading: str) -> list[tuple[str, str]]:
    """The pairs of an object and a right in one of SECURITY.md's tables."""
    return [
        (code(on)[0] if "`" in on else on, right)
        for on, rights in table(SECURITY, heading, "rights")
        for right in code(rights)
    ]


RIGHTS = listed("on")
KEPT_RIGHTS = listed("on, with kept sales")
UNUSABLE = {"id": "unusable"}
_numbers = count(1)


@dataclass
class Bench:
    """An upstream, a database, and the role that the runs log in as."""

    upstream: TicketingApi
    postgres: EmbeddedPostgres
    database: str
    role: str
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {
            "NEST_API_BASE_URL": self.upstream.base_url,
            "DATABASE_URL": self.postgres.url(self.database, self.role),
        } | self.settings

    def sql(self, *statements: str) -> None:
        """As the superuser; `{role}`, `{group}` and `{database}` are this bench's."""
        for statement in statements:
            names = {"role": f'"{self.role}"', "group": f'"{self.role} group"', "database": f'"{self.database}"'}
            self.postgres.run(statement.format(**names), self.database)

    def change_upstream(self) -> None:
        """Rows are inserted, updated and deleted by the next run, and one record is rejected."""
        number = next(_numbers)
        sales = plain_sales(200 - number, events=10)
        day = f"2025-{1 + number // 28:02}-{1 + number % 28:02}"
        moved = [{**sale, "sale_date": day} if sale["id"] % 7 == 0 else sale for sale in sales]
        self.upstream.sales = [*moved, UNUSABLE]

    def run(self, *, dry_run: bool = False) -> RunReport:
        return run_etl_once(Settings.from_env(self.env), RunOptions(dry_run=dry_run))

    def check_runs(self) -> None:
        """A dry run works; a run too, and the tables are then what the oracle makes of the upstream's records."""
        self.change_upstream()
        assert self.run(dry_run=True).status == "dry_run"
        assert self.run().rejected_count == 1
        wanted = wanted_tables(self.postgres, self.upstream.events, self.upstream.sales[:-1])
        assert postgres_tables(self.postgres, self.database).of(wanted) == wanted


@pytest.fixture(scope="module")
def upstream() -> Iterator[TicketingApi]:
    with TicketingApi(plain_events(10), plain_sales(200, events=10), page_size=50) as api:
        yield api


def make_bench(upstream: TicketingApi, postgres: EmbeddedPostgres, settings: dict[str, str] | None = None) -> Bench:
    role = f"plain role {next(_numbers)}"
    postgres.create_role(role)
    return Bench(upstream, postgres, postgres.create_database(), role, settings or {})


def make_narrow(bench: Bench, rights: Sequence[tuple[str, str]]) -> Bench:
    """Have somebody else make the tables, and leave the role these rights on them and no other."""
    Bench(bench.upstream, bench.postgres, bench.database, "postgres", bench.settings).run()
    bench.sql("REVOKE ALL ON DATABASE {database} FROM PUBLIC", "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    bench.sql(*(f"GRANT {right} ON {place(on)} TO {{role}}" for on, right in rights))
    return bench


@pytest.fixture
def bench(upstream: TicketingApi, postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    """An empty database, in which the role may do what everybody may."""
    bench = make_bench(upstream, postgres_server)
    yield bench
    postgres_server.drop_database(bench.database)


def statements(words: Sequence[str]) -> list[str]:
    """terraform/README.md's own, with a group of the bench's in the place of theirs."""
    return [statement.replace("veritix_etl", "{group}") for statement in words]


OWNER = ["CREATE ROLE {group} NOLOGIN CREATEDB CREATEROLE", "ALTER DATABASE {database} OWNER TO {group}"]
"""What Cloud SQL makes of `cloudsqlsuperuser`: no superuser, but whatever database there is belongs to it."""
MEMBER = "GRANT {group} TO {role}"
"""What `database_roles` does."""
WAYS = [
    pytest.param([*OWNER, MEMBER], ["REVOKE {group} FROM {role}"], id="member of the database's owner, as Terraform"),
    pytest.param(
        [*statements(NARROWED), MEMBER], ["REVOKE CREATE ON SCHEMA public FROM {group}"], id="narrowed, as Terraform"
    ),
]


@pytest.mark.parametrize(("given", "taken"), WAYS)
def test_terraforms_roles_are_enough(bench: Bench, given: list[str], taken: list[str]) -> None:
    """Runs work from an empty database on, and go on working once nothing is left but to own the tables."""
    assert len(NARROWED) == 2
    bench.sql(*given)
    assert bench.run().status == "success"
    bench.sql(*taken)
    bench.check_runs()


def test_a_plain_role_is_enough(bench: Bench) -> None:
    """The function makes its tables in the role's own schema; without CREATE all of its routes go on working."""
    bench.sql("CREATE SCHEMA {role} AUTHORIZATION {role}", "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    with Function(bench.env) as function:
        first = function.call()
        bench.sql("ALTER SCHEMA {role} OWNER TO postgres", "GRANT USAGE ON SCHEMA {role} TO {role}")
        bench.change_upstream()
        answers = [function.call("POST", "/"), function.call("POST", "/", params={"dry_run": "true"})]
        answers += [function.call("GET", path) for path in ("/runs", "/metrics")]
    assert [answer.status_code for answer in (first, *answers)] == [200] * 5, [answer.text for answer in answers]
    assert len(answers[2].json()["runs"]) == 2
    assert 'etl_jobs_total{status="success"} 2.0' in answers[3].text
    assert bench.postgres.run(f"SELECT rolsuper FROM pg_roles WHERE rolname = '{bench.role}'") == [(False,)]


@pytest.fixture(scope="module")
def narrow(upstream: TicketingApi, postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    """Tables that somebody else has made, and a role that has the rights of SECURITY.md on them and no other."""
    bench = make_narrow(make_bench(upstream, postgres_server), RIGHTS)
    yield bench
    postgres_server.drop_database(bench.database)


def place(on: str) -> str:
    """A row of SECURITY.md's table of rights, as GRANT names it."""
    return {"database": "DATABASE {database}", "schema": "SCHEMA public"}.get(on, on)


def test_the_listed_rights_are_enough(narrow: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """With SECURITY.md's rights a run changes, adds and deletes rows, keeps its rejects, and says of no trouble."""
    narrow.check_runs()
    kept = narrow.postgres.run("SELECT record FROM etl_rejected_records ORDER BY id DESC LIMIT 1", narrow.database)
    assert kept == [(UNUSABLE,)]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def refusal(bench: Bench, caplog: pytest.LogCaptureFixture) -> str:
    """The run's error; where the run itself is done without the right, what its log says of the rest."""
    try:
        bench.run()
    except EtlError as error:
        return f"{error.code}: {error}"
    told = [
        record for record in caplog.records if record.message in ("ETL run not recorded", "ETL old records not deleted")
    ]
    return "".join(str(vars(record)["fields"]) for record in told)


@pytest.mark.parametrize(("on", "right"), [pytest.param(*row, id=" ".join(row)) for row in RIGHTS])
def test_each_listed_right_is_needed(narrow: Bench, caplog: pytest.LogCaptureFixture, on: str, right: str) -> None:
    """Without any one of them something is refused, and the error names the object and the right."""
    narrow.sql(f"REVOKE {right} ON {place(on)} FROM {{role}}")
    narrow.postgres.terminate_backends(narrow.database)  # else nobody asks for CONNECT
    narrow.change_upstream()
    try:
        said = refusal(narrow, caplog)
    finally:
        narrow.sql(f"GRANT {right} ON {place(on)} TO {{role}}")
    named = {"database": narrow.database, "schema": "schema"}.get(on, f"table {on}")
    assert [word for word in (named, right, "SQLSTATE") if word not in said] == [], said
    is_needed_to_load = on != "etl_rejected_records" and (on, right) != ("etl_runs", "DELETE")
    assert said.startswith("load_failed: ") == is_needed_to_load


@pytest.fixture(scope="module")
def keeper(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    """The same with kept sales: no run asks for changes, so each sweeps, and no sale can be asked for by itself."""
    with TicketingApi(plain_events(10), plain_sales(200, events=10), page_size=50) as upstream:
        made = make_bench(upstream, postgres_server, {"ETL_SALES_STORE": "postgres"})
        yield make_narrow(made, RIGHTS + KEPT_RIGHTS)
    postgres_server.drop_database(made.database)


def keep_changes(bench: Bench) -> None:
    """Three runs: events come, go and change their names, sales move to other days, then some are missed twice."""
    number = next(_numbers)
    events = plain_events(11)
    events[0] |= {"name": f"renamed {number}"}
    sales = [sale | {"sale_date": f"2025-03-{1 + number % 28:02}"} for sale in plain_sales(200, events=10)]
    for gone in (0, 5, 5):
        bench.upstream.events = events[: 11 - gone // 5]
        bench.upstream.sales = [*sales[: 200 - gone], UNUSABLE]
        assert bench.run().status == "success"


def test_the_listed_rights_are_enough_to_keep_sales(keeper: Bench) -> None:
    """With SECURITY.md's rights for kept sales the tables are in the end what the upstream lists."""
    keep_changes(keeper)
    events, sales = keeper.upstream.events, keeper.upstream.sales[:-1]
    wanted = wanted_tables(keeper.postgres, events, sales)
    assert postgres_tables(keeper.postgres, keeper.database).of(wanted) == wanted


@pytest.mark.parametrize(("on", "right"), [pytest.param(*row, id=" ".join(row)) for row in KEPT_RIGHTS])
def test_each_right_to_keep_sales_is_needed(keeper: Bench, on: str, right: str) -> None:
    """Without any one of them a run is refused, and the error names the object and the right."""
    keeper.sql(f"REVOKE {right} ON {place(on)} FROM {{role}}")
    try:
        with pytest.raises(EtlError) as caught:
            keep_changes(keeper)
    finally:
        keeper.sql(f"GRANT {right} ON {place(on)} TO {{role}}")
    said = str(caught.value)
    assert caught.value.code == "load_failed"
    assert [word for word in (f"table {on}", right, "SQLSTATE 42501") if word not in said] == [], said


@pytest.mark.parametrize(
    ("rights", "tables"),
    [(RIGHTS, ledger_tables.metadata), (KEPT_RIGHTS, sales_tables.metadata)],
    ids=["ledger", "kept"],
)
def test_the_listed_rights_are_those_that_an_upgrade_grants(rights: list[tuple[str, str]], tables: sa.MetaData) -> None:
    """For the tables that it upgrades the page says what the program says."""
    shown = {on: [right for name, right in rights if name == on] for on in tables.tables}
    assert shown == {name: table.info["rights"].split(", ") for name, table in tables.tables.items()}


def test_a_narrowed_role_of_an_earlier_version(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Its first run names what the tables' owner has to do, and works then; looking and dry runs work at once."""
    Bench(bench.upstream, bench.postgres, bench.database, "postgres").run()
    bench.sql(*(f"DROP TABLE {name}" for name in ledger_tables.metadata.tables))
    bench.sql(earlier_ledger.TABLES, "REVOKE CREATE ON SCHEMA public FROM PUBLIC", run_row("r1", 1, "success"))
    rights = [row for row in RIGHTS if row[0] not in ledger_tables.metadata.tables] + [*earlier_ledger.RIGHTS.items()]
    bench.sql(*(f"GRANT {granted} ON {place(on)} TO {{role}}" for on, granted in rights))
    assert bench.run(dry_run=True).status == "dry_run"
    with pytest.raises(EtlError, match=r"SQLSTATE 42501\): let their owner run, once: ") as caught:
        bench.run()
    assert (caught.value.code, len(str(caught.value)) < 4000) == ("load_failed", True)
    bench.sql(str(caught.value).partition("once: ")[2])
    caplog.clear()
    bench.check_runs()
    troubles = {record.message for record in caplog.records if record.levelname in ("ERROR", "WARNING")}
    assert troubles == {"ETL records rejected"}
    assert bench.postgres.run("SELECT runs FROM etl_job_counts", bench.database) == [(2,)]

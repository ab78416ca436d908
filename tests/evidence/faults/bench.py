"""The real parts that scenarios are played on, with a proxy in front of each, and the function in its variants."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from google.api_core.exceptions import NotFound

from etl.sales.postgres.tables import metadata as sales_tables
from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.cloud_sql import CloudSqlStandIn
from tests.doubles.fault_proxy import FaultProxy
from tests.doubles.http_server import Answer, Request
from tests.doubles.http_stand_in import HttpStandIn, google_error
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.ticketing.changes import Changes
from tests.doubles.wire import HttpWire, PostgresWire
from tests.evidence.faults.instances import THREADS, Instances
from tests.support.oracle import Tables
from tests.support.testbed import ENVELOPE, EVENTS, PASSWORD, SALES, Testbed, open_testbed

DEADLINE_SECONDS = 6.0
PAGE_SIZES = {"events": 8, "ticket_sales": 30}
BASE_EVENTS = EVENTS[:24]
BASE_SALES = [
    sale | {"updatedAt": "2026-11-20T08:00:00.000Z"}
    for sale in SALES
    if sale["eventId"] in {event["id"] for event in BASE_EVENTS}
][:140]
CERTIFICATE_LIFETIME = timedelta(minutes=1)
"""So short that the Connector asks for a new one at each connection."""
TABLES = ("event_sales_summary", "daily_ticket_sales")
KEPT_TABLES = (*TABLES, *sales_tables.tables)
NOTHING = Tables([], [])
_WIRES = {"postgres": PostgresWire, "bigquery": HttpWire, "upstream": HttpWire, "secret": HttpWire, "admin": HttpWire}
_ROUTED = {
    "postgres": "DATABASE_URL",
    "bigquery": "BIGQUERY_EMULATOR_HOST",
    "upstream": "NEST_API_BASE_URL",
    "secret": "SECRET_MANAGER_ENDPOINT",
}


class Elsewhere(HttpStandIn):
    """A server that nobody has any business with."""

    def respond(self, _: Request) -> Answer:
        return google_error(404, "There is nothing here.")


@dataclass
class Bench:
    """`bed` holds the parts, `proxies` stand in front of them."""

    bed: Testbed
    proxies: dict[str, FaultProxy]
    cloud_sql: CloudSqlStandIn
    elsewhere: Elsewhere
    instances: Instances
    base: Tables = NOTHING
    """What both stores hold after `restore`."""

    def mend(self) -> None:
        """Every part and every way to it as it should be; the upstream keeps its data."""
        for proxy in self.proxies.values():
            proxy.mend()
        upstream = self.bed.upstream
        events, sales = upstream.events, upstream.sales
        self.bed.restore_upstream()
        upstream.events, upstream.sales = events, sales
        for name, size in PAGE_SIZES.items():
            upstream.datasets[name].envelope = ENVELOPE.sized(size)
        self.cloud_sql.client_lifetime = CERTIFICATE_LIFETIME

    def restore(self, *, empty: bool, kept: bool = False) -> None:
        """The stores as they were before: the base snapshot in both, or no table at all; and a healthy upstream.

        `kept`: with the sales that belong to it.
        """
        self.mend()
        self.bed.upstream.events, self.bed.upstream.sales = list(BASE_EVENTS), list(BASE_SALES)
        if empty:
            self.bed.reset_stores()
        else:
            self._restore_rows(KEPT_TABLES if kept else TABLES)
            for name in self.staging_tables():
                self.bed.bigquery.delete_table(f"{self.bed.dataset}.{name}", timeout=30)
        self.bed.upstream.requests.clear()
        for stand_in in (self.bed.front, self.bed.secret_manager, self.cloud_sql, self.elsewhere):
            stand_in.log.clear()

    def _restore_rows(self, tables: Sequence[str]) -> None:
        if any(self.bed.sql(f"SELECT to_regclass('{name}') IS NULL")[0][0] for name in tables):
            self._load("kept")
        names = ", ".join(tables)
        rows = "; ".join(f"INSERT INTO {name} SELECT * FROM saved.{name}" for name in tables)
        self.bed.sql(f"TRUNCATE {names}; {rows}; UPDATE etl_lease SET run_id = NULL")
        changes = "; ".join(
            f"DELETE FROM {self.bed.dataset}.{name} WHERE TRUE; "
            f"INSERT INTO {self.bed.dataset}.{name} SELECT * FROM {self.bed.dataset}_saved.{name}"
            for name in TABLES
        )
        self._query(f"BEGIN TRANSACTION; {changes}; COMMIT TRANSACTION;")

    def save(self) -> None:
        """Load the base snapshot, and keep it for `restore`."""
        self.restore(empty=True)
        self._load("kept")
        self.base = self.bed.wanted()
        copies = "; ".join(f"CREATE TABLE saved.{name} AS TABLE {name}" for name in KEPT_TABLES)
        self.bed.sql(f"CREATE SCHEMA saved; {copies}")
        self.bed.bigquery.create_dataset(f"{self.bed.dataset}_saved", timeout=30)
        for name in TABLES:
            self._query(f"CREATE TABLE {self.bed.dataset}_saved.{name} AS SELECT * FROM {self.bed.dataset}.{name}")

    def _load(self, variant: str) -> None:
        answer = self.instances.function(variant).call()
        assert answer.status_code == 200, answer.text

    def _query(self, sql: str) -> None:
        self.bed.bigquery.query_and_wait(sql, wait_timeout=30)

    def stored(self) -> dict[str, Tables]:
        """What each store holds."""
        there = {name for (name,) in self.bed.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
        tables = {"postgres": self.bed.in_postgres() if there.issuperset(TABLES) else NOTHING}
        try:
            tables["bigquery"] = self.bed.in_bigquery()
        except NotFound:
            tables["bigquery"] = NOTHING
        return tables

    def staging_tables(self) -> list[str]:
        """Those that are left in BigQuery."""
        try:
            tables = self.bed.bigquery.list_tables(self.bed.dataset, timeout=30)
            return [table.table_id for table in tables if table.table_id.startswith("etl_staging_")]
        except NotFound:
            return []

    def strangers(self) -> dict[str, list[Request]]:
        """What everybody was asked who must not see the upstream's token."""
        stand_ins: dict[str, HttpStandIn] = {
            "BigQuery": self.bed.front,
            "Secret Manager": self.bed.secret_manager,
            "Cloud SQL": self.cloud_sql,
            "another server": self.elsewhere,
        }
        return {name: stand_in.log for name, stand_in in stand_ins.items()}

    def ledger(self) -> dict[str, dict[str, Any]]:
        """Its rows by run id, while there is one."""
        if not self.bed.sql("SELECT to_regclass('etl_runs')")[0][0]:
            return {}
        return {row["run_id"]: row for (row,) in self.bed.sql("SELECT to_jsonb(r) FROM etl_runs r")}

    def miscounted(self) -> list[tuple[Any, ...]]:
        """Status, runs that are counted, and runs that the ledger has, where these differ."""
        if not self.bed.sql("SELECT to_regclass('etl_job_counts')")[0][0]:
            return []
        return self.bed.sql(
            "WITH r AS (SELECT status, count(*) AS runs FROM etl_runs WHERE status <> 'running' GROUP BY status)"
            " SELECT status, c.runs, r.runs FROM etl_job_counts c FULL JOIN r USING (status)"
            " WHERE c.runs IS DISTINCT FROM r.runs"
        )

    def lease_holder(self) -> str | None:
        """The run that holds the lease."""
        if not self.bed.sql("SELECT to_regclass('etl_lease')")[0][0]:
            return None
        return next((holder for (holder,) in self.bed.sql("SELECT run_id FROM etl_lease")), None)


@contextmanager
def open_bench(postgres: EmbeddedPostgres, bigquery: BigQueryEmulator) -> Iterator[Bench]:
    """A bench on these servers."""
    with ExitStack() as stack:
        # Many short turns: the stand-ins' threads and the proxies' would else wait 5 ms for each other.
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(0.0005)
        proxies: dict[str, FaultProxy] = {}
        reroute = partial(_put_between, stack, proxies)
        bed = stack.enter_context(open_testbed(postgres, bigquery, reroute, starts=False))
        cloud_sql = CloudSqlStandIn(postgres, port=proxies["postgres"].port, client_lifetime=CERTIFICATE_LIFETIME)
        stack.enter_context(cloud_sql)
        _, port = _port(cloud_sql.admin_endpoint)
        proxies["admin"] = stack.enter_context(FaultProxy(port, HttpWire))
        login = {
            "INSTANCE_CONNECTION_NAME": cloud_sql.instance_connection_name,
            "DB_USER": "etl writer",
            "DB_PASS": PASSWORD,
            "DB_NAME": bed.database,
            "CLOUD_SQL_ADMIN_ENDPOINT": f"http://127.0.0.1:{proxies['admin'].port}",
        }
        instances = stack.enter_context(Instances(bed.env, login))
        kept = f"{bed.dataset}_saved"
        stack.callback(bed.bigquery.delete_dataset, kept, delete_contents=True, not_found_ok=True, timeout=30)
        bed.upstream.changes = Changes()
        bench = Bench(bed, proxies, cloud_sql, stack.enter_context(Elsewhere()), instances)
        bench.save()
        yield bench


def _put_between(stack: ExitStack, proxies: dict[str, FaultProxy], env: dict[str, str]) -> Mapping[str, str]:
    """A proxy before each part that the environment names; and little time, so that a stall ends soon."""
    for name, variable in _ROUTED.items():
        url, port = _port(env[variable])
        proxies[name] = stack.enter_context(FaultProxy(port, _WIRES[name]))
        env[variable] = url.format(proxies[name].port)
    return {
        **env,
        "ETL_DEADLINE_SECONDS": f"{DEADLINE_SECONDS:g}",
        "NEST_API_TIMEOUT_SECONDS": "1",
        "THREADS": str(THREADS),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _port(url: str) -> tuple[str, int]:
    """The address with its port left open, and the port."""
    found = re.search(r":(\d+)(?=[/?]|$)", url)
    assert found is not None, url
    return f"{url[: found.start(1)]}{{}}{url[found.end(1) :]}", int(found[1])

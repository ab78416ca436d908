"""One run: gather, compute, apply, report. The composition root: here, and only here, the parts meet."""

from __future__ import annotations

import gc
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from etl.deadline import Deadline
from etl.errors import (
    ConfigurationError,
    DeadlineExceededError,
    EtlError,
    IncompleteExtractError,
    StoreUnavailableError,
    as_etl_error,
)
from etl.extract.client import Api, BrokenPageError
from etl.extract.reading import Extraction, extract_events_and_sales
from etl.extract.retries import MAX_ATTEMPTS
from etl.extract.secret_manager import read_secret
from etl.extract.tally import RejectedItem, ShowProgress, Tally
from etl.extract.token import Token
from etl.load.postgres.database import engine_for
from etl.load.postgres.load import check_tables, load_postgres
from etl.load.postgres.load import stored_tickets as stored_in_postgres
from etl.load.store import LoadResult, StoredTickets
from etl.logs import LogContext, log_context, log_error, log_info, log_warning
from etl.run.guards import FieldFound, check_rejects, check_schema, check_shrink, fields_to_keep
from etl.run.lease import LeaseKeeper
from etl.run.ledger import Ledger, Run, ledger_for
from etl.run.ledger_tables import COUNTS
from etl.run.loading import Stores
from etl.run.recording import Recorder
from etl.run.report import RunReport
from etl.settings import Settings, read_token
from etl.transform.fold import Summary, fold_events, fold_sales, summarise

if TYPE_CHECKING:
    from etl.sales.pending import Pending
    from etl.sales.run import SalesRun, SalesStore
    from etl.sales.state import SalesState

T = TypeVar("T")
_LOAD_FAILED = {"postgres": "Postgres load failed", "bigquery": "BigQuery load failed"}


@dataclass(frozen=True)
class RunOptions:
    """How one run is to go. `trigger` says for the ledger who asked for it.

    `now` is the clock, in UTC, and `start_deadline` makes the run's deadline of its seconds.
    """

    dry_run: bool = False
    force: bool = False
    sweep: bool = False
    trigger: str = "python"
    progress: ShowProgress = lambda _: None
    is_terminating: Callable[[], bool] = lambda: False
    trace: str | None = None
    span_id: str | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    start_deadline: Callable[[float], Deadline] = Deadline


def run_etl_once(settings: Settings | None = None, options: RunOptions | None = None) -> RunReport:
    """One whole run; without settings, as the environment says.

    Returns the report of a run that succeeded. Raises an EtlError otherwise, with the run's id, and for
    LoadFailedError the state of each store in its details.
    """
    settings = settings or Settings.from_env(os.environ)
    options = options or RunOptions()
    started_at = options.now()
    run = Run(new_run_id(started_at), started_at, options.trigger)
    with log_context(LogContext(run.run_id, options.trace, options.span_id)), _collector_off():
        log_info("ETL job started", trigger=run.trigger, dry_run=options.dry_run, force=options.force)
        report = RunReport(run.run_id, run.trigger, dry_run=options.dry_run, force=options.force)
        try:
            _Runner(settings, options, run, report).execute()
        except EtlError as failure:
            failure.run_id = run.run_id
            log_error(
                "ETL job failed",
                status="failed",
                code=failure.code,
                error=str(failure),
                duration_seconds=report.duration_seconds,
                **failure.log_fields,
            )
            raise
        _log_completed(report)
        return report


def new_run_id(now: datetime) -> str:
    """Readable, in the order of time, and unique."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


class _Runner:
    """One run under way."""

    def __init__(self, settings: Settings, options: RunOptions, run: Run, report: RunReport) -> None:
        self.report = report
        self._settings = settings
        self._options = options
        self._run = run
        self._started = time.perf_counter()
        self._deadline = options.start_deadline(settings.etl_deadline_seconds)
        self._engine = engine_for(settings) if settings.uses_postgres else None
        self._ledger: Ledger = ledger_for(self._engine)
        self._extraction: Extraction | None = None
        self._overridden = False
        self._stores = Stores(self._deadline)
        self._recorder = Recorder(self._ledger, self._deadline, options.now, self._rejects)

    @property
    def _tallies(self) -> dict[str, Tally]:
        """What has been read so far, by dataset."""
        return self._extraction.tallies if self._extraction else {}

    def _rejects(self) -> list[RejectedItem]:
        return [reject for tally in self._tallies.values() for reject in tally.rejects]

    def execute(self) -> None:
        """The run, under the lease and with its row in the ledger; a dry run goes without either.

        Raises the EtlError that the ledger has, too.
        """
        try:
            if self._options.dry_run:
                self._work()
                return
            # Also where it fails the lease may have been taken: the answer to its COMMIT can get lost.
            self._ledger.start(self._run, self._deadline)
            with LeaseKeeper(self._ledger, self._deadline, self._options.is_terminating, self._record_failure):
                self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets one of our errors
            # Judged here and no more: the clock goes on while the ledger is being written.
            failure = self._judge(error)
            self.report.duration_seconds = self._seconds()
            if not self._options.dry_run and self._record_failure(failure):
                self._recorder.forget(self._settings.etl_retention_days)
            raise failure from None
        self._run.status = "reading" if self.report.status == "reading" else "success"
        if self._recorder.record(self._run, self.report.duration_seconds):
            self._recorder.forget(self._settings.etl_retention_days)

    def _record_failure(self, error: EtlError) -> bool:
        return self._recorder.record_failure(self._run, error, self.report.duration_seconds or self._seconds())

    def _judge(self, error: Exception) -> EtlError:
        """The error to tell. A store that kept silent until the run's time was up is why that was exceeded."""
        if isinstance(error, StoreUnavailableError) and not self._deadline.left():
            return DeadlineExceededError(str(error), **error.details)
        return as_etl_error(error)

    def _seconds(self) -> float:
        """Seconds since the run began."""
        return round(time.perf_counter() - self._started, 3)

    def _work(self) -> None:
        if self._engine is not None:
            check_tables(self._engine, self._deadline)
        if self._settings.etl_sales_store == "none":
            summary = self._gather()
            self._guard(summary)
            self._load(summary)
            self.report.status = "dry_run" if self._options.dry_run else "success"
        else:
            self._keep()
        self.report.duration_seconds = self._seconds()

    def _keep(self) -> None:
        """The same with kept sales: read what there is time for, and publish what is pending."""
        settings, options = self._settings, self._options
        api = self._open_api()
        extraction = self._open_extraction(api)
        store = self._open_sales_store()
        found_before = self._found_before()

        def judge(tally: Tally, recounted: int) -> None:
            # Each slice is judged before it is kept: what one of them is let pass for goes for the others.
            if not (options.force and self._overridden):
                self._let_speak(partial(check_schema, tally, found_before["ticket_sales"], recounted))

        run = self._sales_run(api, store, judge)
        with closing(api), store:
            try:
                with self._stage("extract"):
                    names = self._read_steadily(lambda: fold_events(extraction.events()))
                    self._let_speak(partial(check_schema, self._tallies["events"], found_before["events"]))
                    self._let_speak(partial(check_rejects, self._tallies["events"], settings.etl_max_reject_ratio))
                    state, is_fit = run.read(names)
            finally:
                extraction.tallies["ticket_sales"] = run.tally
                self.report.add_tallies(extraction.tallies)
                self.report.kept_sales = run.report
                self._note_counts()
            # Unless somebody said so a field that none of these records has isn't gone: they may all be old ones.
            self._keep_fields_found(found_before, None if self._overridden else 0)
            self.report.add_kept(state, run.report)
            self._note_counts()
            if is_fit:
                self._guard_kept(state, store)
                self._publish(state, store)
        if options.dry_run:
            self.report.status = "dry_run"
        else:
            self.report.status = "success" if is_fit else "reading"

    def _sales_run(self, api: Api, store: SalesStore, judge: Callable[[Tally, int], None]) -> SalesRun:
        from etl.extract.sale_pages import SalePages
        from etl.sales.run import SalesRun

        settings, options = self._settings, self._options
        pages = SalePages(
            api,
            self._run.started_at.astimezone(settings.etl_timezone).date(),
            settings.etl_timezone,
            settings.nest_api_max_pages,
            change_key=settings.nest_api_changed_field,
            reads_creation=store.needs_creation,
            force=options.force,
        )
        return SalesRun(
            settings,
            store,
            pages,
            self._deadline,
            options.now,
            judge=judge,
            show=options.progress,
            force=options.force,
            sweep=options.sweep,
            dry_run=options.dry_run,
        )

    def _open_sales_store(self) -> SalesStore:
        if self._settings.etl_sales_store == "bigquery":
            from etl.sales.bigquery.store import BigQuerySales

            return BigQuerySales(
                self._settings,
                self._deadline,
                self._run.run_id,
                lambda: self._ledger.renew(self._deadline),
                dry_run=self._options.dry_run,
            )
        from etl.sales.postgres.store import PostgresSales

        if self._engine is None:
            raise ConfigurationError("ETL_SALES_STORE=postgres needs PostgreSQL: write DATABASE_URL")
        return PostgresSales(self._engine, self._deadline, self._ledger.hold, dry_run=self._options.dry_run)

    def _guard_kept(self, state: SalesState, store: SalesStore) -> None:
        """Judge all kept sales against what the stores hold."""
        from etl.run.kept_sales import kept_tally, kept_totals

        settings, tallies = self._settings, self._tallies
        sales = kept_tally(state, store, tallies["ticket_sales"], settings.etl_max_reject_ratio)
        self._let_speak(partial(check_rejects, sales, settings.etl_max_reject_ratio))
        scope = store.events() if settings.uses_postgres else ()  # BigQuery's own question names none
        own = {store.name: partial(store.stored_tickets, scope)}
        held = self._stores.ask({**self._questions(scope), **own})
        judged = {"events": tallies["events"], "ticket_sales": sales}
        self._let_speak(
            lambda: check_shrink(
                kept_totals(state, store),
                judged,
                held,
                settings.etl_max_shrink_ratio,
                empty_before=self._empty_before(),
            )
        )

    def _publish(self, state: SalesState, store: SalesStore) -> None:
        """Bring each store to what the kept sales say, the sales' own first."""
        from etl.run.kept_sales import Publication

        publication = Publication(store, state, self._run.started_at)
        loads: dict[str, Callable[[], LoadResult]] = {
            store.name: lambda: publication.publish_own(self._note_rows, self._seal)
        }
        others: dict[str, Callable[[Any], LoadResult]] = {
            "postgres": self._publish_postgres,
            "bigquery": self._load_bigquery,
        }
        for name in self._settings.stores:
            if name != store.name:
                loads[name] = partial(publication.publish_other, name, others[name])
        self._load_stores(loads)
        if self._options.dry_run:
            return
        log_info(
            "ETL published",
            completeness=self.report.completeness.get("ticket_sales"),
            stores={name: result.status for name, result in self.report.stores.items()},
            kept=state.counts.kept,
        )

    def _note_rows(self, events: int, days: int) -> None:
        self.report.event_summary_count, self.report.daily_sales_count = events, days
        self._note_counts()

    def _seal(self, connection: sa.Connection) -> None:
        if not self._options.dry_run:
            self._ledger.seal(connection, replace(self._run, postgres_status="success"))

    def _publish_postgres(self, pending: Pending) -> LoadResult:
        """What the sales' own store hands over, in PostgreSQL."""
        from etl.sales.postgres.publication import load_pending

        return load_pending(
            pending,
            engine_for(self._settings),
            self._deadline,
            self._run.started_at,
            self._seal,
            dry_run=self._options.dry_run,
        )

    @cached_property
    def _last_success(self) -> Run | None:
        return self._ledger.totals(self._deadline).last_success

    def _found_before(self) -> dict[str, dict[str, FieldFound]]:
        """By dataset, the fields that the last success found."""
        before = self._last_success
        kept = before.fields_found if before else {}
        return {
            name: {field: FieldFound.from_json(value) for field, value in kept.get(name, {}).items()}
            for name in ("events", "ticket_sales")
        }

    def _keep_fields_found(
        self, found_before: Mapping[str, Mapping[str, FieldFound]], recounted: int | None = None
    ) -> None:
        for name, tally in self._tallies.items():
            found_now = fields_to_keep(tally, found_before[name], recounted)
            self._run.fields_found[name] = {field: asdict(found) for field, found in found_now.items()}

    def _empty_before(self) -> list[str]:
        """The datasets in which there was nothing at the last success."""
        before = self._last_success
        counts = {"events": before.events_count, "ticket_sales": before.sales_count} if before else {}
        return [name for name, count in counts.items() if count == 0]

    def _open_api(self) -> Api:
        return Api(self._settings, _token(self._settings, self._deadline), self._deadline)

    def _open_extraction(self, api: Api) -> Extraction:
        settings = self._settings
        zone = settings.etl_timezone
        self._extraction = extract_events_and_sales(
            api,
            self._run.started_at.astimezone(zone).date(),
            zone,
            settings.nest_api_max_pages,
            force=self._options.force,
            progress=self._options.progress,
        )
        return self._extraction

    def _gather(self) -> Summary:
        """Read both datasets and fold them."""
        api = self._open_api()
        extraction = self._open_extraction(api)
        try:
            with self._stage("extract"):
                names = self._read_steadily(lambda: fold_events(extraction.events()))
                groups = self._read_steadily(lambda: fold_sales(extraction.sale_rows()))
        finally:
            api.close()
            self.report.add_tallies(extraction.tallies)
            self._note_counts()
        with self._stage("transform"):
            summary = summarise(names, groups, self._run.started_at)
        tallies = extraction.tallies.values()
        folded = sum(tally.folded for tally in tallies)
        self.report.stages["extract"] -= folded
        self.report.stages["transform"] += folded
        self.report.stages["upstream_wait"] = sum(tally.waited for tally in tallies)
        self.report.add_summary(summary)
        self._note_counts()
        _log_extracted(extraction, self.report)
        return summary

    def _read_steadily(self, read: Callable[[], T]) -> T:
        """Read a dataset; once more if it drifted, and up to twice more if a large page broke off."""
        drifts = breaks = 0
        while True:
            try:
                return read()
            except IncompleteExtractError as error:
                drifts += 1
                if drifts > 1:
                    raise
                log_warning("ETL extract drift", error=str(error), **error.details)
            except BrokenPageError as error:
                breaks += 1
                if breaks >= MAX_ATTEMPTS:
                    raise
                log_warning("ETL extract broke off", error=str(error))
                self._deadline.sleep(2.0 ** (breaks - 1))

    def _guard(self, summary: Summary) -> None:
        """Let every guard speak."""
        settings, tallies = self._settings, self._tallies
        found_before = self._found_before()
        self._keep_fields_found(found_before)
        for name, tally in tallies.items():
            # A field that is gone is the cause, and the rejects that it makes the effect.
            self._let_speak(partial(check_schema, tally, found_before[name]))
        for tally in tallies.values():
            self._let_speak(partial(check_rejects, tally, settings.etl_max_reject_ratio))
        held = self._stores.ask(self._questions(summary.scope))
        empty_before = self._empty_before()
        self._let_speak(
            lambda: check_shrink(summary, tallies, held, settings.etl_max_shrink_ratio, empty_before=empty_before)
        )

    def _let_speak(self, guard: Callable[[], None]) -> None:
        """`force` overrides a guard, and says so."""
        try:
            guard()
        except EtlError as error:
            if not self._options.force:
                raise
            self._overridden = True
            log_warning("ETL guard overridden", code=error.code, error=str(error))

    def _questions(self, scope: tuple[str, ...]) -> dict[str, Callable[[Deadline], StoredTickets]]:
        questions: dict[str, Callable[[Deadline], StoredTickets]] = {}
        if (engine := self._engine) is not None:
            questions["postgres"] = lambda deadline: stored_in_postgres(engine, scope, deadline)
        if self._settings.uses_bigquery:
            from etl.load.bigquery.load import stored_tickets as stored_in_bigquery

            questions["bigquery"] = lambda deadline: stored_in_bigquery(self._settings, scope, deadline)
        return questions

    def _load(self, summary: Summary) -> None:
        self._load_stores(self._loaders(summary))

    def _load_stores(self, loaders: Mapping[str, Callable[[], LoadResult]]) -> None:
        """Load each store, whatever becomes of the other."""
        for name, load in loaders.items():
            with self._stage(f"load_{name}"):
                self.report.stores[name] = result = self._stores.load(name, load)
            if not self._options.dry_run:
                setattr(self._run, f"{name}_status", result.status)
                self._log_loaded(result)
        self._stores.raise_failures(self.report.stores)

    def _loaders(self, summary: Summary) -> dict[str, Callable[[], LoadResult]]:
        dry_run = self._options.dry_run
        loaders: dict[str, Callable[[], LoadResult]] = {}
        if (engine := self._engine) is not None:
            sealed = replace(self._run, postgres_status="success")
            loaders["postgres"] = lambda: load_postgres(
                summary,
                engine,
                self._deadline,
                dry_run=dry_run,
                before_commit=lambda connection, _: self._ledger.seal(connection, sealed),
            )
        if self._settings.uses_bigquery:
            loaders["bigquery"] = lambda: self._load_bigquery(summary)
        return loaders

    def _load_bigquery(self, summary: Summary) -> LoadResult:
        from etl.load.bigquery.load import load_bigquery

        return load_bigquery(
            summary,
            self._settings,
            self._deadline,
            self._run.run_id,
            dry_run=self._options.dry_run,
            before_write=lambda: self._ledger.renew(self._deadline),
        )

    def _log_loaded(self, result: LoadResult) -> None:
        if result.status == "failed":
            log_error(_LOAD_FAILED[result.database], error=result.error)
            return
        log_info(
            "ETL load completed",
            database=result.database,
            event_summary_count=self.report.event_summary_count,
            daily_sales_count=self.report.daily_sales_count,
            seconds=round(result.seconds, 3),
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.report.stages[name] = self.report.stages.get(name, 0.0) + time.perf_counter() - started

    def _note_counts(self) -> None:
        for name in COUNTS:
            setattr(self._run, name, getattr(self.report, name))


def _token(settings: Settings, deadline: Deadline) -> Token:
    """The token, from where the settings say; one from Secret Manager can be read again."""
    name = settings.nest_api_token_secret
    if name is None:
        return Token(lambda: settings.nest_api_token)

    def read() -> str:
        try:
            return read_token(read_secret(name, settings.secret_manager_endpoint, deadline))
        except ValueError as error:
            raise ConfigurationError(f"the secret {name} {error}") from None

    return Token(read, can_renew=True)


def _log_extracted(extraction: Extraction, report: RunReport) -> None:
    for tally in extraction.tallies.values():
        for reason, count in sorted(tally.reasons.items()):
            example = next((r.item_id for r in tally.rejects if r.reason == reason), None)
            log_warning(
                "ETL records rejected",
                dataset=tally.dataset,
                reason=reason,
                count=count,
                example_id=example,
            )
    log_info(
        "ETL extract completed",
        events_count=report.events_count,
        sales_count=report.sales_count,
        duplicates_count=report.duplicates_count,
        rejected_count=report.rejected_count,
        undated_count=report.undated_count,
        completeness=report.completeness,
        pages={name: tally.pages for name, tally in extraction.tallies.items()},
    )


def _log_completed(report: RunReport) -> None:
    log_info(
        "ETL job completed",
        status=report.status,
        duration_seconds=report.duration_seconds,
        **{name: getattr(report, name) for name in COUNTS},
    )


_collector_users = 0
_collector_lock = threading.Lock()


@contextmanager
def _collector_off() -> Iterator[None]:
    """The garbage collector costs a fifth of a run, and finds nothing: what a run makes is freed by its counts."""
    global _collector_users
    with _collector_lock:
        _collector_users += 1
        gc.disable()
    try:
        yield
    finally:
        with _collector_lock:
            _collector_users -= 1
            if _collector_users == 0:
                gc.enable()

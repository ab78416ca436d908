"""One run with kept sales: an increment, a slice of a sweep, the count proof. What is read is committed as it comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, islice
from typing import Any, Protocol, Self

from msgspec.structs import replace

from etl.deadline import Deadline
from etl.errors import IncompleteExtractError, SchemaDriftError, UpstreamError
from etl.extract.client import NoSuchParameterError
from etl.extract.pages import Bookmark
from etl.extract.reading import Reading
from etl.extract.sale_pages import Query, ReadSale, SaleBatch, SalePages
from etl.extract.tally import ShowProgress, Tally, progress_of
from etl.load.store import LoadResult, StoredTickets
from etl.logs import log_info, log_warning
from etl.records.fields import SaleItem
from etl.sales.changes import CANARY, ChangeFilter, most_recent, upstream_clock
from etl.sales.kept import Copies, KeptSale, kept_sales
from etl.sales.proof import Totals, prove
from etl.sales.report import SalesReport
from etl.sales.state import Counts, Increment, Proof, SalesState, Sweep, fingerprint
from etl.settings import Settings
from etl.transform.fold import Days, Names

MAX_LOOKUPS = 1_000
"""So many sales are asked for by their ids in one run."""
MAX_UNSETTLED = 3
"""After so many sweeps in a row a count that still doesn't fit fails the run."""
_STEADY_TRIES = 5
_PAUSES = (2.0, 10.0, 30.0)
"""Seconds before an increment is read again whose count doesn't fit: some upstreams cache their totals."""
_INCREMENT_SHARE = 0.5
_PUBLISH_SHARE = 0.25
"""What is kept of a run's time for publishing."""
_TRIFLE = 10


@dataclass(frozen=True)
class SliceBounds:
    """What is read is committed after so many seconds, or a tenth of the run's time if that is less.

    A run commits about `a_run` slices at most, where each costs something; None: as many as it has time for.
    """

    seconds: float
    a_run: int | None = None


NoteRows = Callable[[int, int], None]
"""Is told how many rows the published tables have: events, and days."""


class StagedSales(Protocol):
    """Sales that were read, and are to be kept with the next commit."""

    def extend(self, sales: Iterable[KeptSale]) -> None:
        """Take further sales, in the order in which they were read."""

    def __len__(self) -> int:
        """How many there are."""

    @property
    def is_full(self) -> bool:
        """Whether more would take too much memory."""


class SalesStore(Protocol):
    """Where sales are kept. Each call that writes is a transaction, and raises where the run's lease is lost."""

    name: str
    bounds: SliceBounds
    needs_creation: bool
    """Whether it wants to know when sales were created."""

    def __enter__(self) -> Self:
        """Used as a context manager: at its end nothing stays open, and the last state is written."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        """See there."""

    def open(self, fingerprint: str) -> SalesState:
        """The state; of a new generation where the fingerprint isn't the one that was kept."""

    def save(self, state: SalesState) -> None:
        """Write the state, at the latest with the next call that writes or at the end."""

    def stage(self) -> Any:
        """Empty StagedSales of the store's own kind."""

    def ingest(
        self,
        sales: Any,
        state: SalesState,
        advance: Callable[[SalesState], SalesState],
        *,
        asked_at: datetime,
        lookback: float,
        judge: Judge,
        is_swept: bool = False,
    ) -> tuple[SalesState, Ingested]:
        """Keep what was read, and the state as `advance` moves it on: both or neither.

        `judge` hears what that does before it happens. `is_swept` sales are a sweep's: a store may put them aside
        until `apply_sweep`.
        """

    def apply_sweep(self, state: SalesState, lookback: float, judge: Judge) -> tuple[SalesState, Ingested]:
        """Keep what the sweep that has come to its end has brought, where `ingest` has put it aside."""

    def keep_events(self, names: Names, state: SalesState) -> SalesState:
        """Keep which events are listed, with their names; one without a name keeps the name that it had."""

    def begin_sweep(self, state: SalesState) -> SalesState:
        """Write that a sweep begins, and forget what the one before it has seen."""

    def unseen(self, sweep: int, limit: int) -> tuple[int, list[str]]:
        """How many kept sales a sweep hasn't seen, nor an increment since it began; and so many of their ids."""

    def note_misses(self, sweep: int, state: SalesState, *, counts: bool) -> int:
        """Note which sales the sweep hasn't seen, in place of those that were noted before.

        A miss adds to the earlier ones where it `counts`. Returns how many sales have been missed twice or more.
        """

    def delete(self, ids: Sequence[str], state: SalesState) -> SalesState:
        """Delete kept sales; the groups that they leave are pending."""

    def delete_missed(self, state: SalesState) -> SalesState:
        """Delete the sales that have been missed twice or more."""

    def delete_outdated(self, state: SalesState) -> SalesState:
        """Delete what is left of earlier generations."""

    def recount(self) -> Counts:
        """The counts, counted anew."""

    def events(self) -> tuple[str, ...]:
        """The ids of all events that are listed or sold, in order."""

    def stored_tickets(self, scope: tuple[str, ...], deadline: Deadline) -> StoredTickets:
        """What the store has published of the events in scope, which are all of them."""

    def groups(self) -> Iterator[tuple[str, Days]]:
        """Each event's days."""

    def reasons(self) -> dict[str, int]:
        """How many kept sales can't be used, by reason."""

    def publish(self, state: SalesState, now: datetime, note: NoteRows, seal: Any) -> tuple[SalesState, LoadResult]:
        """Publish what is pending in the store itself. `seal` adds to the transaction where that is PostgreSQL's."""

    def pending(self, store: str, state: SalesState, now: datetime) -> Any:
        """What another store is to be brought to, in the form that its load takes; None: nothing is pending there."""

    def mark_published(self, store: str, state: SalesState, now: datetime) -> SalesState:
        """Forget what was pending in a store that has it now. Returns the state with it."""


@dataclass(frozen=True)
class Ingested:
    """What an ingest does: `inserted` sales are new, `updated` ones differ from what was kept.

    Of both `recounted` may change a sum.
    """

    inserted: int = 0
    updated: int = 0
    recounted: int = 0

    def __sub__(self, other: Ingested) -> Ingested:
        return Ingested(self.inserted - other.inserted, self.updated - other.updated, self.recounted - other.recounted)


Judge = Callable[[Ingested], None]
"""Is told what an ingest is about to do. Raises where that can't be right."""


class SalesRun:
    """Reads into a sales store.

    `judge` raises where what has been read so far can't be right. It gets how many of these records may change a
    sum: an old one that has always lacked a field says nothing about the others.
    """

    def __init__(
        self,
        settings: Settings,
        store: SalesStore,
        pages: SalePages,
        deadline: Deadline,
        now: Callable[[], datetime],
        *,
        judge: Callable[[Tally, int], None],
        show: ShowProgress = lambda _: None,
        force: bool = False,
        sweep: bool = False,
        dry_run: bool = False,
    ) -> None:
        self.report = SalesReport()
        self.tally = Tally("ticket_sales")
        self._settings = settings
        self._store = store
        self._pages = pages
        self._deadline = deadline
        self._now = now
        self._judge = judge
        self._show = show
        self._force = force
        self._wants_sweep = sweep
        self._dry_run = dry_run
        self._lookback = timedelta(seconds=settings.etl_lookback_seconds)
        self._filter: ChangeFilter | None = None
        if settings.nest_api_changed_query is not None:
            self._filter = ChangeFilter(
                settings.nest_api_changed_query, settings.nest_api_changed_format, settings.nest_api_changed_field
            )
        self._living: str | None = None
        """A sale that was just read."""
        self._is_honoured = False
        self._slices = 0
        """How many this run has committed."""

    def read(self, names: Names) -> tuple[SalesState, bool]:
        """Read what there is time for. Returns the state, and whether it may be published.

        Raises ConfigurationError where the upstream doesn't filter by what was asked, and IncompleteExtractError where
        sweep after sweep the counts don't fit.
        """
        store = self._store
        state = store.open(fingerprint(self._settings))
        state = store.keep_events(names, state)
        proof: Proof | None = None
        totals: Totals | None = None
        if self._filter is not None and state.watermark is not None:
            state, proof, totals = self._read_proved_increment(state, self._filter)
        if not self._dry_run:
            if self._is_sweep_needed(state, proof):
                state, totals = self._read_slice(state)
            if state.sweep is not None and state.sweep.has_ended and totals is not None:
                state, proof = self._end_sweep(state, state.sweep, totals)
        return self._decide(state, proof)

    def _is_sweep_needed(self, state: SalesState, proof: Proof | None) -> bool:
        if state.sweep is not None:
            return not state.sweep.has_ended or self._filter is None
        if self._wants_sweep or self._filter is None or state.watermark is None:
            return True
        is_due = state.is_sweep_due(self._now(), self._settings.etl_sweep_hours)
        return is_due or (proof is not None and proof.completeness == "failed")

    def _decide(self, state: SalesState, proof: Proof | None) -> tuple[SalesState, bool]:
        """Whether what is kept now may be published."""
        report = self.report
        report.kept = state.counts.kept
        if proof is not None:
            report.completeness, report.off = proof.completeness, proof.off
            report.width = 0 if proof.low is None or proof.high is None else proof.high - proof.low
        if state.swept_at is None or state.increment is not None or proof is None:
            is_fit = False
        else:
            is_fit = proof.completeness != "failed" or self._force
        if not is_fit:
            self._say_progress(state)
            if proof is not None and proof.off < 0 and state.unsettled >= MAX_UNSETTLED:
                raise IncompleteExtractError(
                    f"ticket_sales: {state.counts.kept} sales are kept, and the upstream declares {proof.low}: "
                    f"{state.unsettled} sweeps in a row didn't find the others. Its order isn't stable, or its total "
                    "counts what it doesn't list: sort by a unique column there. Sweeps go on.",
                    dataset="ticket_sales",
                    kept=state.counts.kept,
                    declared=proof.low,
                )
        return state, is_fit

    def _say_progress(self, state: SalesState) -> None:
        sweep = state.sweep
        self.report.progress = {
            "records": state.counts.kept if sweep is None else sweep.read,
            "declared_total": None if sweep is None else sweep.total,
            "pages": 0 if sweep is None else sweep.pages,
            "since": (self._now() if sweep is None else sweep.began_at).isoformat(),
        }

    # Increments

    def _read_proved_increment(
        self, state: SalesState, changes: ChangeFilter
    ) -> tuple[SalesState, Proof | None, Totals | None]:
        """An increment, read again while the count doesn't fit and the time is there; None where it isn't through."""
        watermark = state.watermark
        state, totals = self._read_fresh_increment(state, changes, _INCREMENT_SHARE)
        if totals is None or state.swept_at is None:  # before the first sweep has ended there is nothing to prove
            return state, None, totals
        proof = self._prove(state, totals)
        for number, pause in enumerate(_PAUSES, start=1):
            if not self._may_settle(state, proof) or self._left(_PUBLISH_SHARE) < 2 * pause:
                break
            self._deadline.sleep(pause)
            earlier = timedelta(seconds=number)
            state, again = self._read_increment(state, changes, watermark, earlier=earlier, share=_PUBLISH_SHARE)
            if again is None:  # what it was to show isn't known, and what it was to read has been read before
                state = replace(state, increment=None)
                break
            totals = again
            proof = self._prove(state, totals)
        state = replace(state, proof=proof)
        self._store.save(state)
        return state, proof, totals

    def _read_fresh_increment(
        self, state: SalesState, changes: ChangeFilter, share: float
    ) -> tuple[SalesState, Totals | None]:
        """An increment that begins now; before it the one that was begun earlier, which knows nothing of what has come
        since, and so proves nothing.
        """
        if state.increment is not None:
            state, totals = self._read_increment(state, changes, state.watermark, share=share)
            if totals is None:
                return state, None
            share = _PUBLISH_SHARE
        return self._read_increment(state, changes, state.watermark, share=share)

    @staticmethod
    def _may_settle(state: SalesState, proof: Proof) -> bool:
        """Whether a count that doesn't fit may do so a little later: it isn't known to be off, and no sweep has ended,
        which tells what is gone.
        """
        known = state.proof is not None and state.proof.off == proof.off
        return proof.off != 0 and not known and not (state.sweep is not None and state.sweep.has_ended)

    def _prove(self, state: SalesState, totals: Totals) -> Proof:
        proof = prove(state.counts.kept, totals, self._settings.etl_max_unproved_ratio, self._now())
        log_info(
            "ETL count proof",
            completeness=proof.completeness,
            kept=proof.kept,
            low=proof.low,
            high=proof.high,
            off=proof.off,
        )
        return proof

    def _read_increment(
        self,
        state: SalesState,
        changes: ChangeFilter,
        watermark: datetime | None,
        *,
        earlier: timedelta = timedelta(),
        share: float = _INCREMENT_SHARE,
    ) -> tuple[SalesState, Totals | None]:
        """What changed since the watermark, and the totals around it; None where the time is up before its end."""
        begun = state.increment
        since = begun.since if begun is not None else (watermark or self._now()) - self._lookback - earlier
        start = None if begun is None else begun.bookmark
        as_of: datetime | None = None if begun is None else begun.as_of
        self._check_honoured(changes)
        try:
            reading, batches, around = self._begin_steadily(changes.query(since), start)
        except NoSuchParameterError as error:
            raise changes.refused(since, error) from None
        except (UpstreamError, IncompleteExtractError):
            if begun is None:
                raise
            # Its cursor has expired: it begins anew, from where it began.
            log_warning("ETL increment begun anew", since=since.isoformat())
            state = replace(state, increment=None)
            return self._read_increment(state, changes, watermark, earlier=earlier, share=share)
        recent = {sale_id for sale_id, _ in state.recent}
        came: set[str] = set()
        slice_ = _Slice(self, state, reading.tally)
        for batch in batches:
            if as_of is None:
                as_of = self._clock(batch.date)
            changes.check(batch.sales, since)
            came.update(sale.sale_id for sale in batch.sales if sale.sale_id in recent)
            slice_.add(batch.sales, partial(replace, increment=Increment(since, as_of, batch.bookmark)))
            self._show(progress_of(reading.tally, "increment"))
            # Of a page that is read again alone, no increment would ever come to its end.
            if self._is_up(share) and reading.tally.pages > (0 if start is None else start.request.ordinal):
                return slice_.commit(), None
        if begun is None:
            changes.check_recent(state.recent, came, since)
        self.report.increment_pages += reading.tally.pages
        as_of = as_of or self._now()
        state = slice_.commit(lambda s: replace(s, increment=None, watermark=max(filter(None, (s.watermark, as_of)))))
        log_info(
            "ETL increment read",
            since=since.isoformat(),
            as_of=as_of.isoformat(),
            pages=reading.tally.pages,
            sales_count=reading.tally.read,
            inserted=slice_.inserted,
            updated=slice_.updated,
        )
        self._add(reading.tally)
        return state, self._totals(around)

    def _begin_steadily(
        self, query: Query, start: Bookmark | None
    ) -> tuple[Reading[SaleItem], Iterator[SaleBatch], tuple[int | None, int | None]]:
        """A reading whose first page has come, the batches, and the totals before and after that page.

        It begins again where these differ; what has come on a page before counts all the same.
        """
        first: list[SaleBatch] = []
        for _ in range(_STEADY_TRIES):
            reading = self._pages.reading()
            before = self._total()
            batches = self._pages.read(reading, query, start)
            first += islice(batches, 1)
            after = self._total()
            if before == after or self._is_late():
                break
        return reading, chain(first, batches), (before, after)

    def _check_honoured(self, changes: ChangeFilter) -> None:
        """Ask once for what changes from tomorrow on: whatever comes from before then passed an ignored filter."""
        if self._is_honoured:
            return
        since = self._now() + CANARY
        try:
            sample = self._pages.sample(changes.query(since))
        except NoSuchParameterError as error:
            raise changes.refused(since, error) from None
        changes.check(sample.sales, since)
        self._is_honoured = True

    def _totals(self, around: tuple[int | None, int | None]) -> Totals | None:
        """Those before and after a first page, with the one after the last; None where the time is up before that."""
        return None if self._is_late() else (*around, self._total())

    def _total(self) -> int | None:
        return self._pages.sample().total

    def _clock(self, date: str | None) -> datetime:
        as_of, off = upstream_clock(date, self._now(), self._lookback)
        if off is not None:
            log_warning(
                "ETL clocks differ",
                seconds=round(off.total_seconds()),
                error="the upstream's Date header is more than half of ETL_LOOKBACK_SECONDS away from this machine's "
                "clock: the earlier one counts. Correct the clock, or raise ETL_LOOKBACK_SECONDS.",
            )
        return as_of

    # Sweeps

    def _read_slice(self, state: SalesState) -> tuple[SalesState, Totals | None]:
        """Go on with the sweep, or begin one. Where it comes to its end, the totals that its count is to lie between.

        None where the end isn't reached, or the time is up before the increment that follows: then the next run's does.
        """
        sweep = state.sweep
        try:
            state = self._begin_sweep(state) if sweep is None else self._sweep_on(state, sweep)
        except (UpstreamError, IncompleteExtractError) as error:
            is_refused = sweep is not None and sweep.bookmark is not None and not self.report.sweep_pages
            if not is_refused:
                if isinstance(error, IncompleteExtractError):
                    self._store.save(replace(state, sweep=None))  # to go on there would bring the same again
                raise
            log_warning("ETL sweep begun anew", error=str(error))
            state = self._begin_sweep(state)
        sweep = state.sweep
        if sweep is None or not sweep.has_ended:
            return state, None
        state = self._apply_sweep(state, sweep)
        if self._left(_PUBLISH_SHARE) <= 0:
            return state, None
        if self._filter is None:
            return self._read_ends(state, sweep)
        return self._read_fresh_increment(state, self._filter, _PUBLISH_SHARE)

    def _begin_sweep(self, state: SalesState) -> SalesState:
        sweep = Sweep(state.sweeps + 1, self._now())
        state = self._store.begin_sweep(replace(state, sweeps=sweep.number, sweep=sweep))
        return self._sweep_on(state, sweep)

    def _sweep_on(self, state: SalesState, sweep: Sweep) -> SalesState:
        reading = self._pages.reading()
        # The first sweep may begin with many old records that lack a field: it is judged at its end, as a whole.
        slice_ = _Slice(self, state, None if state.swept_at is None else reading.tally, is_swept=True)
        first_as_of: datetime | None = None
        has_ended, before, had_before = True, sweep.read, Counter(sweep.fields_had)
        for batch in () if sweep.has_ended else self._pages.read(reading, start=sweep.bookmark):
            if first_as_of is None and self._filter is not None:
                first_as_of = self._clock(batch.date)
            sweep = self._advanced(sweep, batch, reading.tally, had_before)
            slice_.add(batch.sales, _Advance(sweep, first_as_of))
            self._show(progress_of(reading.tally, "sweep", before))
            if self._is_up(_PUBLISH_SHARE) and self.report.sweep_pages > 1:
                has_ended = False
                slice_.commit()  # before what is under way is waited for
                break
        sweep = replace(sweep, has_ended=has_ended)
        state = slice_.commit(_Advance(sweep, first_as_of))
        self._add(reading.tally)
        log_info(
            "ETL sweep slice",
            sweep=sweep.number,
            pages=sweep.pages,
            records=sweep.read,
            declared_total=sweep.total,
            inserted=slice_.inserted,
            updated=slice_.updated,
        )
        self._note_found(state, slice_)
        return state

    def _note_found(self, state: SalesState, ingested: Ingested | _Slice) -> None:
        """What a sweep brings that no increment has brought; of the first sweep that is everything."""
        if state.swept_at is not None:
            found = self.report.found
            found["missing"] = found.get("missing", 0) + ingested.inserted
            found["changed"] = found.get("changed", 0) + ingested.updated

    def _apply_sweep(self, state: SalesState, sweep: Sweep) -> SalesState:
        """Keep what the sweep has brought, once it has come to its end."""
        if sweep.is_applied:
            return state
        swept = Tally("ticket_sales", read=sweep.read, keys_seen=self.tally.keys_seen)
        swept.fields_had.update(sweep.fields_had)
        try:
            if state.swept_at is None:
                self._judge(swept, sweep.read)
            state, ingested = self._store.apply_sweep(
                replace(state, sweep=replace(sweep, is_applied=True)),
                self._settings.etl_lookback_seconds,
                lambda coming: self._judge(swept, coming.recounted),
            )
        except SchemaDriftError:
            self._store.save(replace(state, sweep=None))  # what it has brought can't be used: another one begins
            raise
        self._note_found(state, ingested)
        return state

    def _advanced(self, sweep: Sweep, batch: SaleBatch, tally: Tally, had_before: Counter[str]) -> Sweep:
        is_new = sweep.bookmark is None or sweep.bookmark != batch.bookmark
        self.report.sweep_pages += is_new
        return replace(
            sweep,
            bookmark=batch.bookmark,
            total=tally.last_total if sweep.total is None else sweep.total,
            pages=sweep.pages + is_new,
            read=sweep.read + len(batch.sales),
            fields_had=dict(had_before + tally.fields_had),
        )

    def _end_sweep(self, state: SalesState, sweep: Sweep, totals: Totals) -> tuple[SalesState, Proof]:
        """Find out what is gone, and count. What has come while the sweep read has been read since."""
        state = self._store.delete_outdated(self._apply_sweep(state, sweep))
        state, deleted = self._settle_missed(state, sweep, totals)
        state = replace(state, counts=self._store.recount())  # what somebody has changed there by hand counts too
        proof = self._prove(state, totals)
        is_settled = proof.completeness != "failed"
        now = self._now()
        # Whatever somebody has done to the published tables is mended with the next publication, which compares all.
        state = replace(
            state,
            sweep=None,
            proof=proof,
            published={},
            events_digest=None,
            swept_at=now if is_settled else state.swept_at,
            unsettled=0 if is_settled else state.unsettled + 1,
        )
        self._store.save(state)
        self.report.sweep_ended = True
        self.report.found["deleted"] = deleted
        log_info(
            "ETL sweep completed",
            sweep=sweep.number,
            pages=sweep.pages,
            records=sweep.read,
            seconds=round((now - sweep.began_at).total_seconds(), 3),
            missed=self.report.missed,
            **self.report.found,
        )
        return state, proof

    def _read_ends(self, state: SalesState, sweep: Sweep) -> tuple[SalesState, Totals | None]:
        """Where no filter tells what has changed: both ends of the list again, where arrivals stand.

        From the first page on until as many pages again bring nothing new or different, at first one, and from the
        sweep's last page to the end.
        """
        before = self._total()
        last = sweep.bookmark
        reading = self._pages.reading()
        after: int | None = None
        slice_ = _Slice(self, state)
        for number, batch in enumerate(self._pages.read(reading), start=1):
            if number == 1:
                after = self._total()
            slice_.add(batch.sales)
            if number & (number - 1):  # a commit may cost seconds: after 1, 2, 4, 8 pages
                continue
            known = slice_.inserted + slice_.updated
            state = slice_.commit()
            if slice_.inserted + slice_.updated == known:
                break
            if self._is_up(_PUBLISH_SHARE / 2):
                return state, None
        state = slice_.commit()
        if self._is_late():
            return state, None
        if last is not None and not last.request.is_first:
            slice_ = _Slice(self, state)
            for batch in self._pages.read(self._pages.reading(), start=last):
                slice_.add(batch.sales)
            state = slice_.commit()
        return state, self._totals((before, after))

    def _settle_missed(self, state: SalesState, sweep: Sweep, totals: Totals) -> tuple[SalesState, int]:
        """Delete the kept sales that the upstream doesn't have any more. Returns how many.

        A sale that a sweep missed may have been skipped while others moved. So each is asked for by itself; where that
        can't be, it has to be missed by two sweeps in a row that saw as much as was declared.
        """
        store = self._store
        number, ids = store.unseen(sweep.number, MAX_LOOKUPS)
        found: list[ReadSale] = []
        delete = store.delete_missed
        if number and self._can_look_up():
            gone: list[str] = []
            for sale_id in ids:
                if self._is_late():
                    break  # the next sweep asks for the others
                lookup = self._pages.find(sale_id)
                if lookup.is_gone:
                    gone.append(sale_id)
                elif lookup.sale is not None:
                    found.append(lookup.sale)
            going, delete = len(gone), partial(store.delete, gone)
        else:
            has_seen_all = sweep.total is None or state.counts.kept - number >= sweep.total
            going = store.note_misses(sweep.number, state, counts=has_seen_all)
            low = min((total for total in totals if total is not None), default=0)
            if state.counts.kept - going < low:
                going = 0
        ratio = self._settings.etl_max_shrink_ratio
        if going > max(_TRIFLE, ratio * state.counts.kept) and not self._force:
            log_warning(
                "ETL deletions held back",
                count=going,
                error=f"{going} of {state.counts.kept} kept sales are gone upstream, more than "
                f"ETL_MAX_SHRINK_RATIO={ratio:g} allows. If that is right, run once with force=true and sweep=true.",
            )
            going = 0
        if found:
            slice_ = _Slice(self, state)
            slice_.add(found)
            state = slice_.commit()
        if going:
            state = delete(state)
        self.report.missed = number - going - len(found)
        return state, going

    def _can_look_up(self) -> bool:
        """Whether the upstream answers a sale that was just read when it is asked for by its id."""
        return self._living is not None and self._pages.find(self._living).sale is not None

    # What both have in common

    def _left(self, share: float) -> float:
        """Seconds left until so large a share of the run's time is all that remains."""
        return self._deadline.left() - share * self._deadline.seconds

    def _is_late(self) -> bool:
        """Whether the rest of the time is for publishing alone: the next run may ask what is still to be asked."""
        return self._left(_PUBLISH_SHARE / 2) <= 0

    def _is_up(self, share: float) -> bool:
        """Whether a reading is to stop: only so large a share of the run's time, or of its slices, remains."""
        most = self._store.bounds.a_run
        return self._left(share) <= 0 or (most is not None and self._slices >= (1 - share) * most)

    def _add(self, tally: Tally) -> None:
        """Count a reading into the run's."""
        total = self.tally
        total.pages += tally.pages
        total.read += tally.read
        total.duplicates += tally.duplicates
        total.accepted += tally.accepted
        total.reasons.update(tally.reasons)
        total.rejects += tally.rejects
        total.waited += tally.waited
        total.keys_seen = total.keys_seen or tally.keys_seen
        for name, key in tally.fields_found.items():
            total.fields_found.setdefault(name, key)
        total.fields_had.update(tally.fields_had)


@dataclass(frozen=True)
class _Advance:
    """Moves the state on to where a sweep stands. The first watermark is the upstream's clock at the first page."""

    sweep: Sweep
    as_of: datetime | None

    def __call__(self, state: SalesState) -> SalesState:
        return replace(state, sweep=self.sweep, watermark=state.watermark or self.as_of)


class _Slice:
    """Gathers what is read, and commits it together with the place to go on from, before it becomes too much.

    What comes by the reading whose `tally` is given is judged before.
    """

    def __init__(self, run: SalesRun, state: SalesState, tally: Tally | None = None, *, is_swept: bool = False) -> None:
        self.inserted = self.updated = self._recounted = 0
        self._tally = tally
        self._run = run
        self._state = state
        self._is_swept = is_swept
        self._staged: StagedSales = run._store.stage()
        self._copies = Copies()
        self._advance: Callable[[SalesState], SalesState] = lambda state: state
        self._asked_at = run._now()
        self._seconds = min(run._store.bounds.seconds, run._deadline.seconds / 10)

    def add(self, sales: list[ReadSale], advance: Callable[[SalesState], SalesState] | None = None) -> None:
        """Take sales, and what to write of the state with them."""
        run = self._run
        if not self._staged:
            self._asked_at = run._now()
        self._staged.extend(kept_sales(sales, self._copies))
        recent = most_recent(self._state.recent, sales, run._now())
        self._state = replace(self._state, recent=recent)
        if advance is not None:
            self._advance = advance
        living = next((sale.sale_id for sale in reversed(sales) if sale.sale_id is not None), None)
        run._living = living or run._living
        if self._staged.is_full or (run._now() - self._asked_at).total_seconds() >= self._seconds:
            self.commit()

    def commit(self, advance: Callable[[SalesState], SalesState] | None = None) -> SalesState:
        """Write what has been gathered; `advance` has the last word on the state."""
        run, last = self._run, self._advance
        run._slices += bool(self._staged)
        self._state, ingested = run._store.ingest(
            self._staged,
            self._state,
            last if advance is None else lambda state: advance(last(state)),
            asked_at=self._asked_at,
            lookback=run._settings.etl_lookback_seconds,
            judge=self._judge,
            is_swept=self._is_swept,
        )
        self._staged = run._store.stage()
        self.inserted += ingested.inserted
        self.updated += ingested.updated
        self._recounted += ingested.recounted
        return self._state

    def _judge(self, coming: Ingested) -> None:
        if self._tally is not None:
            self._run._judge(self._tally, self._recounted + coming.recounted)

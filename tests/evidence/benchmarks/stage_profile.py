"""Where the time goes: the run's own stages, and the steps from a page's bytes to the rows of the tables."""

import gc
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from etl.extract.body import read_page
from etl.extract.items import Batch, ItemDecoder
from etl.extract.seen_ids import SeenIds
from etl.records.fields import SaleItem
from etl.records.plain_sales import ColumnReader, SaleColumns, SaleRow, columns_of, row_of
from etl.records.reader import sale_reader
from etl.transform.fold import fold_sales, summarise
from etl.transform.tables import TABLES
from tests.evidence.benchmarks.findings import LeftOutError
from tests.evidence.benchmarks.kinds import Kind
from tests.evidence.benchmarks.session import Session
from tests.evidence.benchmarks.workload import Workload, make_workloads
from tests.sandbox import screen

T = TypeVar("T")


def print_profile(session: Session, kind: Kind) -> None:
    """The stages of one whole run into empty tables, and then the steps, per million sales."""
    workload = make_workloads(kind, session.scale).first
    try:
        run = session.trial(kind).run_into_empty(workload)
    except LeftOutError as error:
        print(f"No whole run: {error}")
    else:
        stages = {**run.stages, "all (POST /)": run.seconds, "CPU of the function": run.cpu_seconds}
        _show("Stages of a whole run", {**stages}, 1.0)
    _show("Steps over stored pages", steps(workload), 1_000_000 / workload.sales)


class _Clock:
    """CPU seconds by step. What a step calls through `timed` is taken off it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0

    def timed(self, name: str, step: Callable[..., T], *arguments: Any) -> T:
        outer, self._inner = self._inner, 0.0
        started = time.process_time()
        result = step(*arguments)
        whole = time.process_time() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + whole - self._inner
        self._inner = outer + whole
        return result


def steps(workload: Workload) -> dict[str, float]:
    """CPU seconds of each step over all pages, in the order of a run."""
    clock = _Clock()
    decoder, reader, seen = ItemDecoder(SaleItem), ColumnReader(ZoneInfo("UTC")), SeenIds()
    read_one: Callable[[Any], Any] = sale_reader(date(2026, 11, 23), UTC)

    def batches() -> Iterator[Batch[SaleItem]]:
        for number in range(1, workload.pages + 1):
            body = clock.timed("read the files", workload.page(number).read_bytes)
            yield from clock.timed("decode a page", read_page, iter([body]), decoder).batches

    def read(batch: Batch[SaleItem]) -> SaleColumns:
        columns = None if batch.plain is None else reader.read(batch.plain)
        return columns_of(map(row_of, map(read_one, batch.items))) if columns is None else columns

    def rows() -> Iterator[SaleRow]:
        for batch in batches():
            columns = clock.timed("read its sales", read, batch)
            clock.timed("note their ids", seen.add, [sale.sale_id for sale in batch.plain or ()])
            yield from columns.rows()

    gc.disable()
    try:
        groups = clock.timed("fold", fold_sales, rows())
        clock.timed("count the ids", seen.count)
        summary = clock.timed("summarise", summarise, {}, groups, datetime.now(UTC))
        for table in TABLES:
            clock.timed("rows as text", lambda rows: sum(1 for _ in rows), table.rows(summary))
    finally:
        gc.enable()
    return clock.seconds


def _show(title: str, seconds: dict[str, float], times: float) -> None:
    per = "" if times == 1 else ", per million sales"
    screen.table(f"{title}, seconds{per}", ("step", "seconds"), [(n, f"{s * times:.2f}") for n, s in seconds.items()])

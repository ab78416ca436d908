"""What the tests of reading share: an `Api` for a sample upstream, passed-in time, whole readings, log events."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

import pytest

from etl.deadline import Deadline
from etl.extract.client import EVENTS, TICKET_SALES, Api, Dataset
from etl.extract.reading import Extraction, extract_events_and_sales
from etl.extract.tally import ShowProgress, Tally
from etl.extract.token import Token
from etl.logs import configure_logs
from etl.settings import Settings
from tests.doubles.ticketing.request_log import RequestSeen

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TODAY = NOW.date()
DatasetName = Literal["events", "ticket_sales"]
DATASETS: dict[DatasetName, Dataset[Any]] = {"events": EVENTS, "ticket_sales": TICKET_SALES}


class FakeDeadline(Deadline):
    """A deadline whose time passes only while the product sleeps, which then takes no time. `slept` notes each wait."""

    def __init__(self, seconds: float = 1750.0) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        super().__init__(seconds, lambda: self.now)

    def sleep(self, seconds: float) -> None:
        if seconds < self.remaining_or_raise():
            self.slept.append(seconds)
            self.now += seconds
            seconds = 0.0
        super().sleep(seconds)  # refuses a wait that reaches past the end


def settings_for(base_url: str, env: Mapping[str, str]) -> Settings:
    """Settings as they come from an environment with these variables."""
    return Settings.from_env({"NEST_API_BASE_URL": base_url, "DATABASE_URL": "postgresql://etl@127.0.0.1/etl", **env})


@contextmanager
def client(
    base_url: str,
    *,
    token: Token | str | None = None,
    deadline: Deadline | None = None,
    jitter: Callable[[], float] = lambda: 0.0,
    env: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Api]:
    """The product's client of the API at `base_url`; without a `deadline`, waits take no time."""
    given = token if isinstance(token, Token) else Token(lambda: token)
    api = Api(settings_for(base_url, env), given, deadline or FakeDeadline(), jitter, lambda: NOW)
    try:
        yield api
    finally:
        api.close()


@dataclass
class Reading:
    """Records in the order they came, and what their `Tally` says."""

    records: list[Any]
    tally: Tally

    @property
    def ids(self) -> list[str | None]:
        name = "event_id" if self.tally.dataset == "events" else "sale_id"
        return [getattr(record, name) for record in self.records]


def extraction(
    api: Api, *, force: bool = False, max_pages: int = 1000, progress: ShowProgress = lambda _: None
) -> Extraction:
    """Both streams, in UTC; TODAY is the day of what has no date."""
    return extract_events_and_sales(api, TODAY, UTC, max_pages, force=force, progress=progress)


def read_once(source: Extraction, dataset: DatasetName = "ticket_sales") -> Reading:
    """One reading of a dataset, to its end."""
    records = list(source.events() if dataset == "events" else source.sales())
    return Reading(records, source.tallies[dataset])


def read_all(
    base_url: str,
    dataset: DatasetName = "ticket_sales",
    *,
    force: bool = False,
    max_pages: int = 1000,
    token: Token | str | None = None,
    deadline: Deadline | None = None,
    env: Mapping[str, str] = MappingProxyType({}),
) -> Reading:
    """One reading of one dataset of the API at `base_url`."""
    with client(base_url, token=token, deadline=deadline, env=env) as api:
        return read_once(extraction(api, force=force, max_pages=max_pages), dataset)


@contextmanager
def json_logs() -> Iterator[None]:
    """Logs as in production, on stdout; afterwards as before."""
    root, own = logging.root, logging.getLogger("etl")
    before = root.handlers[:], root.level, own.level
    configure_logs("INFO")
    try:
        yield
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        own.setLevel(before[2])


def logged(capsys: pytest.CaptureFixture[str], message: str = "ETL extract attempt") -> list[dict[str, Any]]:
    """The events with this message since the last call, in order, without the time."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [{key: line[key] for key in line if key != "time"} for line in lines if line["message"] == message]


def attempt_event(attempt: int, status_code: int | None, record_count: int, dataset: str) -> dict[str, Any]:
    """The whole event of one attempt, outside a run."""
    return {
        "severity": "INFO",
        "message": "ETL extract attempt",
        "logger": "etl",
        "dataset": dataset,
        "attempt": attempt,
        "status_code": status_code,
        "record_count": record_count,
    }


def at_once(requests: Sequence[RequestSeen], latency: float) -> int:
    """How many requests were under way at once, at most, where each took at least `latency` seconds."""
    arrivals = sorted(seen.at for seen in requests)
    return max(sum(start <= other < start + latency for other in arrivals) for start in arrivals)


def fetch_threads() -> list[str]:
    """The names of the threads that fetch pages ahead."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fetch")]

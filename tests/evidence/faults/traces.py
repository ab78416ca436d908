"""What a scenario left outside of the stores: secrets, transactions, threads, files, staging tables."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from tests.evidence.faults.bench import Bench
from tests.evidence.faults.instances import IDLE_THREADS
from tests.evidence.faults.play import SETTLE_SECONDS, Play
from tests.support.function import Function, is_json_object
from tests.support.testbed import LABELS, PASSWORD, TOKEN

T = TypeVar("T")
SECRETS = (TOKEN, PASSWORD, "d09e7b", "PRIVATE KEY")


@dataclass
class Watch:
    """What there was before: the lengths of each function's outputs, its threads, and the runs in the ledger."""

    outputs: dict[str, dict[str, int]]
    threads: dict[str, int]
    runs: frozenset[str]

    @classmethod
    def begin(cls, bench: Bench) -> Self:
        up = {name: function for name, function in bench.instances if function.is_up}
        return cls(
            {name: {stream: len(text) for stream, text in function.outputs().items()} for name, function in up.items()},
            {name: threads(function.worker) for name, function in up.items()},
            frozenset(bench.ledger()),
        )

    def said(self, name: str, function: Function) -> dict[str, str]:
        """What this function has written since."""
        before = self.outputs.get(name, {})
        return {stream: text[before.get(stream, 0) :] for stream, text in function.outputs().items()}


def threads(process: int) -> int:
    """How many it has, but for the one that pyarrow's allocator starts when it likes."""
    names = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/comm")]
    return len(names) - names.count("jemalloc_bg_thd\n")


def check_leaks(play: Play, watch: Watch) -> Iterator[str]:
    """(c) No secret in any log line, answer, ledger row; no token sent elsewhere."""
    bench = play.bench
    texts = {f"answer {number}": answered.text for number, answered in enumerate(play.answers, 1)}
    for name, function in bench.instances:
        for stream, text in watch.said(name, function).items():
            texts[f"{stream} of {name}"] = text
    texts["ledger"] = json.dumps(bench.ledger())
    for name, stand_in in bench.strangers().items():
        texts[f"request to {name}"] = str([(request.target, request.headers, request.body) for request in stand_in])
    for place, text in texts.items():
        for secret in SECRETS:
            if secret in text:
                yield f"{secret!r} stands in the {place}: ...{text[max(0, text.index(secret) - 200) :][:400]}"
        if place.startswith("answer") and "Traceback" in text:
            yield f"a stack trace stands in the {place}: {text}"
    for name, function in bench.instances:
        lines = watch.said(name, function)["stdout"].splitlines()
        yield from (f"{name} logged what isn't JSON: {line}" for line in lines if not is_json_object(line))


def check_left(play: Play, watch: Watch) -> Iterator[str]:
    """(f) No open transaction, no lease, no thread, no temporary file, no staging table that stays for ever."""
    bench = play.bench
    open_ = _until_empty(lambda: open_transactions(bench))
    yield from (f"a transaction is open ({state}): {query[:120]}" for state, query in open_)
    holder = bench.lease_holder()
    if (
        holder is not None
        and holder not in unrecorded(play)
        and any(answered.body.get("run_id") == holder for answered in play.answers)
    ):
        yield f"run {holder} has answered, and still holds the lease"
    for name, function in bench.instances:
        limit = max(watch.threads.get(name, 0), IDLE_THREADS[name])
        if function.is_up and (extra := _until_empty(partial(_threads_beyond, function, limit))):
            yield f"{name} has {len(extra)} threads more than {limit}"
        if not play.is_killed and (files := _until_empty(partial(bench.instances.temporary_files, name))):
            yield f"temporary files are left: {files}"
    dated = {name for name, has_expiry in _created(bench) if has_expiry}
    yield from (f"staging table {name} has no expiry" for name in bench.staging_tables() if name not in dated)


def unrecorded(play: Play) -> set[str]:
    """Runs that said in the log that the ledger couldn't be written; an excuse only while the fault goes on."""
    if not play.lasts:
        return set()
    lines = [line for _, function in play.bench.instances for line in function.log_lines()]
    return {line[LABELS]["run_id"] for line in lines if line["message"] == "ETL run not recorded"}


def _threads_beyond(function: Function, limit: int) -> list[int]:
    return list(range(limit, threads(function.worker)))


def open_transactions(bench: Bench) -> list[tuple[str, str]]:
    rows = bench.bed.postgres.run(
        "SELECT state, query FROM pg_stat_activity WHERE backend_type = 'client backend'"
        f" AND pid <> pg_backend_pid() AND datname = '{bench.bed.database}' AND state <> 'idle'"
    )
    return [(state, query) for state, query in rows]


def _created(bench: Bench) -> Iterator[tuple[str, bool]]:
    """Tables that were asked for, and whether with an expiry: the emulator forgets it."""
    for request in bench.bed.front.log:
        if request.method == "POST" and re.search(r"/tables$", request.path):
            yield request.json["tableReference"]["tableId"], int(request.json.get("expirationTime", 0)) > 0


def _until_empty(look: Callable[[], list[T]]) -> list[T]:
    """What is still there after a while."""
    end = time.monotonic() + SETTLE_SECONDS
    while (found := look()) and time.monotonic() < end:
        time.sleep(0.05)
    return found

"""python -m etl: runs from a shell, and a look at what they came to."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

from etl.deadline import Deadline
from etl.errors import ConfigurationError, EtlError, as_etl_error
from etl.extract.tally import Progress
from etl.load.postgres.database import engine_for
from etl.logs import configure_logs
from etl.run.ledger import ledger_of
from etl.run.pipeline import RunOptions, run_etl_once
from etl.run.report import plain
from etl.settings import Settings
from etl.views.comparison import compare_stores, heal_differences
from etl.views.rejects import read_reasons, read_record
from etl.views.text import Style, format_comparison, format_reasons, format_record, format_report, format_runs, sentence

STOP_SECONDS = 3.0
"""How long a run may take to end after a signal: it records that within a second."""
LOOK_SECONDS = 30.0
"""How long the ledger may take to answer."""
_NAMES = {"events": "events", "ticket_sales": "ticket sales", "increment": "changed sales", "sweep": "sweep"}
_EXAMPLES = """\
examples:
  python -m etl                     run once, as the environment says
  python -m etl run --dry-run       tell what would change, and write nothing
  python -m etl runs                list the last runs
  python -m etl rejects             list why records are rejected
  python -m etl rejects --show 17   print one rejected record
  python -m etl compare             compare both stores; exit code 1 if they differ
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command says. 0 if that succeeded, else 1; a comparison that finds differences is 1."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, "run")
    chosen = _parser().parse_args(given)
    try:
        return int(chosen.command(chosen))
    except EtlError as error:
        print(_failure(error), file=sys.stderr)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _failure(error: EtlError) -> str:
    """One line: what failed, why, and what to do."""
    return f"failed: {error.code}: {sentence(str(error))} What to do: {error.remedy.replace('`', '')}."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m etl",
        description="Run the ETL, or look at what it did. Settings come from the environment.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="answer in JSON")
        added.set_defaults(command=command)
        return added

    run = add("run", _run, "run once (the default)")
    run.add_argument("--dry-run", action="store_true", help="tell what would change, and write nothing")
    run.add_argument("--force", action="store_true", help="load, and override the guards")
    run.add_argument("--sweep", action="store_true", help="with kept sales: begin a sweep of the whole list")
    sweep = add("sweep", _run, "run once and begin a sweep; the same as run --sweep")
    sweep.add_argument("--force", action="store_true", help="load, and override the guards")
    sweep.set_defaults(sweep=True, dry_run=False)
    compare = add("compare", _compare, "compare both stores, group by group")
    compare.add_argument("--heal", action="store_true", help="have the next run publish again what differs")
    runs = add("runs", _runs, "list the last runs, newest first")
    runs.add_argument("--limit", type=int, default=20, metavar="N", help="how many (20)")
    rejects = add("rejects", _rejects, "list why records are rejected")
    rejects.add_argument("--show", type=int, metavar="ID", help="print the rejected record with this id")
    return parser


def _run(chosen: argparse.Namespace) -> int:
    stopped = _stop_on_signals()
    bars = None if chosen.json else _bars()
    formatter = None if bars is None else _PlainFormatter()
    # On stdout a report in JSON stands alone.
    stream: Literal["stdout", "stderr"] = "stderr" if chosen.json else "stdout"
    try:
        configure_logs("INFO", formatter, stream)
        settings = Settings.from_env(os.environ)
        configure_logs(settings.log_level if bars is None else "WARNING", formatter, stream)
        options = RunOptions(
            dry_run=chosen.dry_run,
            force=chosen.force,
            sweep=chosen.sweep,
            trigger="cli",
            is_terminating=stopped.is_set,
            progress=bars.show if bars is not None else lambda _: None,
        )
        report = run_etl_once(settings, options)
    finally:
        if bars is not None:
            bars.close()
    _answer(chosen, report.to_json(), lambda style: format_report(report, style))
    return 0


def _runs(chosen: argparse.Namespace) -> int:
    settings = Settings.from_env(os.environ)
    runs = ledger_of(settings).last_runs(chosen.limit, Deadline(LOOK_SECONDS))
    _answer(chosen, {"runs": [asdict(run) for run in runs]}, lambda style: format_runs(runs, style))
    return 0


def _rejects(chosen: argparse.Namespace) -> int:
    settings = Settings.from_env(os.environ)
    if not settings.uses_postgres:
        raise ConfigurationError("rejected records are kept in PostgreSQL, and none is set up: write DATABASE_URL")
    engine, deadline = engine_for(settings), Deadline(LOOK_SECONDS)
    if chosen.show is not None:
        record = read_record(engine, chosen.show, deadline)
        _answer(chosen, asdict(record), lambda _: format_record(record))
        return 0
    reasons = read_reasons(engine, deadline)
    _answer(chosen, {"rejects": [asdict(reason) for reason in reasons]}, lambda _: format_reasons(reasons))
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    configure_logs("WARNING", _PlainFormatter(), "stderr")
    settings = Settings.from_env(os.environ)
    compare = heal_differences if chosen.heal else compare_stores
    try:
        comparison = compare(settings, ledger_of(settings), Deadline(settings.etl_deadline_seconds))
    except Exception as error:  # noqa: BLE001 - a library's own: a line of it has to do
        raise as_etl_error(error) from None
    healed = None
    if chosen.heal and not comparison.is_equal:
        healed = "The next run reads everything, and brings both stores to it: nothing needs to be marked."
        if settings.etl_sales_store != "none":
            healed = f"{comparison.differing} groups are marked: the next run publishes them again in both stores."
    _answer(chosen, comparison.to_json(), lambda _: format_comparison(comparison, healed))
    return 0 if comparison.is_equal else 1


def _answer(chosen: argparse.Namespace, values: Any, text: Callable[[Style], str]) -> None:
    """As JSON where that is asked for, else as text, in colour on a terminal (not with NO_COLOR)."""
    if chosen.json:
        print(json.dumps(values, default=plain))
    else:
        print(text(Style(has_colours=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))))


def _stop_on_signals() -> threading.Event:
    """Set by Ctrl-C or SIGTERM: the lease is then given back. What waits for an answer isn't waited for; a second
    signal ends the process at once.
    """
    stopped = threading.Event()

    def give_up() -> None:
        print("failed: terminated: stopped by a signal", file=sys.stderr, flush=True)
        os._exit(1)

    def stop(*_: object) -> None:
        if stopped.is_set():
            give_up()
        stopped.set()
        patience = threading.Timer(STOP_SECONDS, give_up)
        patience.daemon = True
        patience.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped


class _PlainFormatter(logging.Formatter):
    """A log record for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        return f"{record.levelname.lower()}: {record.getMessage()}" + (f" {fields}" if fields else "")


class _Bars:
    """A progress line a reading: records, the share of the declared total, the time that is left, pages."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._bars: dict[str, Any] = {}

    def show(self, progress: Progress) -> None:
        """Called after each page. A sweep goes on where an earlier run has stopped."""
        name, before = progress.what, progress.before
        if name not in self._bars:
            self._bars[name] = self._make(desc=_NAMES[name], unit=" records", initial=before, leave=True)
        bar = self._bars[name]
        bar.total = progress.total
        bar.set_postfix(pages=progress.pages, refresh=False)
        bar.update(before + progress.read - bar.n)

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()


def _bars() -> _Bars | None:
    """None without a terminal, or without tqdm, which is a development dependency: then the log lines tell."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return _Bars(tqdm) if sys.stderr.isatty() else None


if __name__ == "__main__":
    sys.exit(main())

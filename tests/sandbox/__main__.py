"""python -m tests.sandbox run | serve: the function on real parts, on this machine and without an account anywhere.

`run` calls it once, shows what it answered and what the stores hold then, and ends. `serve` goes on until Ctrl-C.
Exit code 0 if all went well, 1 if a step failed (the last lines say which, and why), 128 + n after signal n.
"""

import argparse
import os
import signal
import sys
import time
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import NoReturn

import requests

from etl.errors import EtlError
from etl.settings import Settings
from tests.doubles.processes import SandboxError
from tests.sandbox import read_back, screen
from tests.sandbox.function import FunctionServer, reach_loopback
from tests.sandbox.parts import start_parts

PORT = 8080
CALLS = (
    "-X POST {url}/",
    "-X POST '{url}/?dry_run=true'",
    "{url}/runs",
    "{url}/compare",
    "{url}/metrics",
    "{url}/health",
)
LOG_SECONDS = 0.3


def main(arguments: list[str]) -> int:
    asked = _arguments(arguments)
    os.environ.update(reach_loopback(os.environ))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        with ExitStack() as stack:
            act = {"run": run, "serve": serve}[asked.action]
            act(*start(stack, with_parts=asked.sandbox == "yes"))
    except (SandboxError, EtlError) as error:
        print(f"\nFailed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 0 if asked.action == "serve" else 128 + signal.SIGINT
    return 0


def run(function: FunctionServer, started: dict[str, str]) -> None:
    """One run over HTTP, and then a look into the stores."""
    screen.report(_call(function))
    asks = read_back.stores(Settings.from_env({**os.environ, **started}))
    best = next(iter(asks.values()))(read_back.BEST_SELLERS)
    screen.table("The ten best-selling events", ("event", "tickets", "revenue"), best)
    totals = {store: read_back.totals(ask) for store, ask in asks.items()}
    rows = [(name, *(held[name] for held in totals.values())) for name in read_back.TOTALS]
    screen.table("What the stores hold now", ("", *totals), rows)
    _compare(totals, started)
    print("\nTo keep it serving: make serve. Then, in another terminal:")
    _show_calls(f"http://127.0.0.1:{PORT}")


def serve(function: FunctionServer, started: dict[str, str]) -> None:
    """Shows how to call it, and its log, until it ends."""
    print("\nServing until Ctrl-C. In another terminal:")
    _show_calls(function.url)
    if "DATABASE_URL" in started:
        print(f"    psql '{started['DATABASE_URL']}'")
    print("\nThe function's log:", flush=True)
    shown = 0
    while function.process.exit_code is None:
        shown = _show_log(function.process.log, shown)
        time.sleep(LOG_SECONDS)
    raise SandboxError(f"The function ended with exit code {function.process.exit_code}.")


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sandbox")
    parser.add_argument("action", choices=("run", "serve"))
    parser.add_argument("--sandbox", choices=("yes", "no"), default="yes", help="no: only what the environment names")
    return parser.parse_args(arguments)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    print("\nStopped.", file=sys.stderr)
    sys.exit(128 + number)


def start(stack: ExitStack, *, with_parts: bool) -> tuple[FunctionServer, dict[str, str]]:
    print("Starting")
    started = start_parts(stack, os.environ, screen.step) if with_parts else {}
    began = time.monotonic()
    function = stack.enter_context(FunctionServer({**os.environ, **started}, PORT))
    screen.step("Function", function.url, time.monotonic() - began)
    return function, started


def _call(function: FunctionServer) -> dict[str, object]:
    began = time.monotonic()
    try:
        answer = function.request("POST", "/")
        body = answer.json()
    except requests.RequestException as error:
        raise SandboxError(f"POST /: no answer ({error}).{function.process.last_words()}") from error
    if answer.status_code != requests.codes.ok:
        said = f"{answer.status_code} {body.get('code')}: {body.get('detail')}".rstrip(".")
        raise SandboxError(f"POST / was answered {said}.{function.process.last_words()}")
    screen.step("POST /", f"{answer.status_code} {body['status']}", time.monotonic() - began)
    return dict(body)


def _compare(totals: dict[str, dict[str, int | Decimal]], started: dict[str, str]) -> None:
    """Stores that were empty must now hold the same; those that the user brings may hold more."""
    if all(held == next(iter(totals.values())) for held in totals.values()):
        print("  The same in each.")
    elif {"DATABASE_URL", "BIGQUERY_EMULATOR_HOST"} <= started.keys():
        raise SandboxError("the two stores were empty, and hold different totals after the run.")


def _show_calls(url: str) -> None:
    for call in CALLS:
        print(f"    curl {call.format(url=url)}")
    print(f"In a browser: {url}/report")


def _show_log(log: Path, shown: int) -> int:
    with log.open("rb") as lines:
        lines.seek(shown)
        new = lines.read()
    sys.stdout.write(new.decode(errors="replace"))
    sys.stdout.flush()
    return shown + len(new)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

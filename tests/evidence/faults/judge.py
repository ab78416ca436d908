"""Six checks of what a scenario left behind. Each gives what is wrong, in words."""

from collections.abc import Iterator

from tests.evidence.faults.play import Answered, Play
from tests.evidence.faults.traces import Watch, check_leaks, check_left, unrecorded
from tests.support.oracle import Tables

MARGIN_SECONDS = 5.0


def judge_run(play: Play, watch: Watch) -> list[str]:
    """All that must hold when the run has ended, and the fault with it."""
    play.held = play.bench.stored()
    checks = (check_stores, check_end, check_leaks, check_ledger, check_time, check_left)
    return [wrong for check in checks for wrong in check(play, watch)]


def check_stores(play: Play, watch: Watch) -> Iterator[str]:
    """(a) Each store holds the old snapshot or a new one, never a mix; and a new one where it is said to be loaded."""
    loaded = set(_said_loaded(play, watch))
    for store, held in play.held.items():
        state = state_of(play, held)
        if state == "mix":
            yield f"{store} holds neither the old nor the new data: {_difference(held, play.allowed)}"
        elif state == "old" and store in loaded:
            yield f"{store} is said to be loaded, and holds the old data"


def state_of(play: Play, held: Tables) -> str:
    """`old`, `new`, or `mix` for what it may not be."""
    if held not in play.allowed:
        return "mix"
    return "old" if held == play.old else "new"


def _said_loaded(play: Play, watch: Watch) -> Iterator[str]:
    """Stores that were loaded, as an answer or the ledger says."""
    for answered in play.answers:
        for store, result in answered.body.get("stores", {}).items():
            if (result["status"] if isinstance(result, dict) else result) == "success":
                yield store
    for run_id, row in play.bench.ledger().items():
        if run_id not in watch.runs:
            yield from (store for store in ("postgres", "bigquery") if row[f"{store}_status"] == "success")


def _difference(held: Tables, allowed: list[Tables]) -> str:
    rows = [{*tables.events, *tables.daily} for tables in (held, *allowed)]
    return "; ".join(f"{len(rows[0] - other)} rows too many, {len(other - rows[0])} missing" for other in rows[1:])


def check_end(play: Play, _: Watch) -> Iterator[str]:
    """The fault was met, and every call answered in a documented way, unless its process was killed."""
    if not play.is_met():
        yield "the moment of the fault never came"
    if play.harmless and all(answered.status != 200 for answered in play.answers):
        yield f"no run succeeded, and nothing had kept it from that: {_said(play.answers[0])}"
    for answered in play.answers:
        if answered.status is None and not play.is_killed:
            yield "a call got no answer, and nothing had killed the process"
        if answered.body.get("code") == "internal_error" and not play.breaks:
            yield f"an error that isn't ours: {answered.text}"


def check_ledger(play: Play, _: Watch) -> Iterator[str]:
    """(d) Each run that answered stands in the ledger as it answered, and each that has ended is counted once."""
    ledger = play.bench.ledger()
    for answered in play.answers:
        run_id, code = answered.body.get("run_id"), answered.body.get("code")
        if run_id is None or code == "already_running":
            continue
        row = ledger.get(run_id)
        if row is None:
            if code not in ("load_failed", "deadline_exceeded", "terminated"):
                yield f"run {run_id} answered {code or 'success'}, and the ledger has never heard of it"
        elif row["status"] == "running" and run_id in unrecorded(play):
            continue
        elif play.is_outdated and row["error_code"] == "terminated":
            continue  # buried by the one that took its lease over
        elif (row["status"], row["error_code"]) != (("failed", code) if code else (answered.body["status"], None)):
            said = f"{row['status']} {row['error_code'] or ''}"
            yield f"run {run_id} answered {code or 'success'}, and the ledger says {said.strip()}"
    for status, counted, there in play.bench.miscounted():
        yield f"{counted} runs are counted as {status}, and the ledger has {there}"


def check_time(play: Play, _: Watch) -> Iterator[str]:
    """(e) It ended within its deadline and 5 s."""
    for answered in play.answers:
        if answered.seconds > play.deadline_seconds + MARGIN_SECONDS:
            yield f"a run took {answered.seconds:.1f} s: {_said(answered)}"


def judge_heal(play: Play, clean: Answered, wanted: Tables) -> list[str]:
    """(b) One clean run later both stores hold the newest data, (d) and the ledger has an end for every run."""
    if clean.status != 200:
        return [f"the clean run afterwards came to {_said(clean)}"]
    stored = play.bench.stored()
    wrong = [f"{store} doesn't hold the data of the clean run" for store, held in stored.items() if held != wanted]
    ledger = play.bench.ledger()
    wrong += [f"run {run_id} is still said to run" for run_id, row in ledger.items() if row["status"] == "running"]
    wrong += [
        f"run {run_id} is said to have failed, and not why"
        for run_id, row in ledger.items()
        if row["status"] == "failed" and not row["error_code"]
    ]
    if ledger.get(clean.body["run_id"], {}).get("status") != "success":
        wrong.append("the clean run isn't in the ledger as a success")
    return wrong


def _said(answered: Answered) -> str:
    return f"{answered.status or 'no answer'} {answered.body.get('code', '')}: {answered.body.get('detail', '')}"

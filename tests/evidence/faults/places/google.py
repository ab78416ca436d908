"""Secret Manager and the Cloud SQL Admin API: refusals, silence, damage; at the start of a run and in mid-run."""

from collections.abc import Callable
from datetime import timedelta

from tests.doubles import fault_acts as acts
from tests.doubles.fault_proxy import Act, Trap
from tests.doubles.http_server import Answer
from tests.doubles.http_stand_in import google_error
from tests.doubles.moments import UPSTREAM
from tests.evidence.faults.kind import Kind
from tests.evidence.faults.play import Play
from tests.support.testbed import SECRET, TOKEN

_EVERYWHERE = {
    "secret": ("start", "refresh"),
    "admin": ("settings", "certificate", "refresh-settings", "refresh-certificate"),
}
_DENIED = (google_error(403, "Permission denied"), google_error(404, "Not found"))
_UNAVAILABLE = (google_error(429, "Quota exceeded"), google_error(500, "Internal"), google_error(503, "Unavailable"))
_GARBAGE = (
    Answer(200, b"<html>", {"Content-Type": "text/html"}),
    Answer(200, b'{"payload": {"da', {"Content-Type": "application/json"}),
)


def _answer(*answers: Answer) -> Callable[[Play], None]:
    def arm(play: Play) -> None:
        answer = play.dice.choice(answers)
        strike(play, acts.http_answer(lambda _: answer), play.dice.choice([1, None]))

    return arm


def strike(play: Play, act: Act, times: int | None = 1) -> None:
    """Lay the trap, and bring it about that the function asks: at its start, or (`refresh`) in mid-run."""
    if play.scenario.where == "secret":
        play.trap(act, times, skip=_rotate(play))
    else:
        _at_connect(play, act, times)


def _rotate(play: Play) -> int:
    """For `refresh`, the token changes in mid-run, so that the secret is read a second time; how many come before."""
    if play.scenario.when != "refresh":
        return 0
    bed = play.bench.bed

    def rotate(page: object) -> None:
        if getattr(page, "dataset", None) == "ticket_sales":
            bed.upstream.on_page = None
            bed.rotate_token(TOKEN + "-new")

    bed.upstream.on_page = rotate
    return 1


def _corrupt(play: Play) -> None:
    """The checksum doesn't fit the payload."""
    bed = play.bench.bed
    if _rotate(play):
        rotate = bed.upstream.on_page

        def rotate_badly(page: object) -> None:
            assert rotate is not None
            rotate(page)  # type: ignore[arg-type]
            bed.secret_manager.corrupt(f"{SECRET}/versions/latest")

        bed.upstream.on_page = rotate_badly
        play.trap(acts.before(lambda: None), skip=1)
    else:
        bed.secret_manager.corrupt(f"{SECRET}/versions/latest")
        play.trap(acts.before(lambda: None))


def _at_connect(play: Play, act: Act, times: int | None) -> None:
    """Every connection is gone, so that the Connector has to ask: before the run, or in mid-run."""
    proxies, bed = play.bench.proxies, play.bench.bed
    if not play.scenario.when.startswith("refresh"):
        bed.postgres.terminate_backends(bed.database)
        play.trap(act, times)
        return
    trap = Trap(play.moment.pattern, act, times)
    play.lasts = play.lasts or times is None

    def disconnect() -> None:
        proxies["admin"].set(trap)
        bed.postgres.terminate_backends(bed.database)

    proxies["upstream"].set(Trap(UPSTREAM["sales-first"].pattern, acts.before(disconnect)))
    play.is_met = trap.sprung.is_set


def _expire(play: Play) -> None:
    """The certificates that it hands out have expired."""
    _at_connect(play, acts.before(lambda: setattr(play.bench.cloud_sql, "client_lifetime", -timedelta(hours=1))), 1)


GOOGLE: dict[str, Kind] = {
    "denied": Kind(_answer(*_DENIED), _EVERYWHERE),
    "google-unavailable": Kind(_answer(*_UNAVAILABLE), _EVERYWHERE),
    "garbage": Kind(_answer(*_GARBAGE), _EVERYWHERE),
    "hang": Kind(lambda play: strike(play, acts.black_hole), _EVERYWHERE, lasts=True),
    "wrong-checksum": Kind(_corrupt, {"secret": ("start", "refresh")}),
    "expired-certificate": Kind(_expire, {"admin": ("certificate", "refresh-certificate")}, lasts=True),
}

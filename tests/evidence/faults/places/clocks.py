"""The wall clock: it jumps by an hour, midnight comes, summer time begins or ends while a run is under way."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.evidence.faults.kind import Kind
from tests.evidence.faults.play import Play

ZONE = "Europe/Berlin"
_MOMENTS = {
    "secret": ("start",),
    "upstream": ("events-first", "sales-first", "sales-middle", "sales-last"),
    "postgres": ("lease", "commit-start", "stage-summary", "upsert-daily", "seal", "commit-load", "give-back"),
    "bigquery": ("stage-summary", "upload-daily", "merge", "reconcile"),
}
Jump = tuple[datetime | None, timedelta]
"""Where the clock stands when the run begins (None: as it is), and how far it jumps."""
_MINUTE = timedelta(minutes=1)
_HOUR_JUMPS: tuple[Jump, ...] = ((None, timedelta(hours=1)), (None, -timedelta(hours=1)))
_MIDNIGHTS: tuple[Jump, ...] = (
    (datetime(2026, 6, 30, 21, 59, 30, tzinfo=UTC), _MINUTE),
    (datetime(2026, 3, 29, 21, 59, 30, tzinfo=UTC), _MINUTE),  # a day of 23 hours ends
    (datetime(2026, 10, 24, 21, 59, 30, tzinfo=UTC), _MINUTE),  # one of 25 begins
)
_SUMMER_TIMES: tuple[Jump, ...] = (
    (datetime(2026, 3, 29, 0, 59, 30, tzinfo=UTC), _MINUTE),
    (datetime(2026, 10, 25, 0, 59, 30, tzinfo=UTC), _MINUTE),
)


def _jump(jumps: tuple[Jump, ...]) -> Callable[[Play], None]:
    """The clock jumps at the scenario's moment.

    Sales without a date count on the day on which the run began, whatever the clock says later.
    """

    def arm(play: Play) -> None:
        start, by = play.dice.choice(jumps)
        clock, upstream = play.bench.instances.clock, play.bench.bed.upstream
        now = datetime.now(UTC)
        shift = timedelta() if start is None else start - now
        clock.write_text(str(shift.total_seconds()))
        play.undo.callback(clock.unlink)
        play.zone = ZONE
        play.allowed.pop()
        day = (now + shift).astimezone(ZoneInfo(ZONE)).date()
        undated = dict(upstream.sales[0])
        dated = {**undated, "createdAt": f"{day}T12:00:00.000Z"}
        upstream.sales[0] = dated
        play.allowed.append(play.wanted())
        upstream.sales[0] = {name: value for name, value in undated.items() if name != "createdAt"}
        play.undo.callback(upstream.sales.__setitem__, 0, dated)
        play.trap_work(lambda: clock.write_text(str((shift + by).total_seconds())))

    return arm


CLOCKS: dict[str, Kind] = {
    "clock-jumps": Kind(_jump(_HOUR_JUMPS), _MOMENTS, variant="clock", harmless=True),
    "midnight": Kind(_jump(_MIDNIGHTS), _MOMENTS, variant="clock", harmless=True),
    "summer-time": Kind(_jump(_SUMMER_TIMES), _MOMENTS, variant="clock", harmless=True),
}

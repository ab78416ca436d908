"""How an upstream is asked for what changed since a moment, and whether its answer can be one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, urlencode

from etl.errors import ConfigurationError
from etl.extract.client import TICKET_SALES
from etl.extract.sale_pages import Query, ReadSale

GRACE = timedelta(seconds=1)
"""Times of change may be cut to whole seconds on their way."""
CANARY = timedelta(days=1)
"""So far ahead of the upstream's clock nothing can have changed yet."""
RECENT_KEPT = 20
"""So many of the last changes are remembered."""
_ENOUGH = 3
"""So many changes that don't come prove that a filter filters something else."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


_FORMATS: dict[str, Callable[[datetime], str]] = {
    "iso": _iso,
    "unix": lambda moment: str(_milliseconds(moment) // 1000),
    "unix_ms": lambda moment: str(_milliseconds(moment)),
}
"""How `{since}` is written, by NEST_API_CHANGED_FORMAT."""


class ChangeFilter:
    """Asks for what changed. `template` is NEST_API_CHANGED_QUERY, `key` the only key of a time of change, or None."""

    def __init__(self, template: str, form: str, key: str | None) -> None:
        self._pairs = parse_qsl(template, keep_blank_values=True)
        self._write = _FORMATS[form]
        self._key = key

    def query(self, since: datetime) -> Query:
        """The query that asks for what changed at `since` or later."""
        moment = self._write(since)
        return tuple((name, value.replace("{since}", moment)) for name, value in self._pairs)

    def check(self, sales: Iterable[ReadSale], since: datetime) -> None:
        """Raise ConfigurationError for a sale that was changed before `since`: then the filter isn't applied."""
        for sale in sales:
            if sale.changed_at is None:
                raise self._error(
                    since,
                    f"brought a sale without a time of change ({self._keys()}): name its key in NEST_API_CHANGED_FIELD",
                )
            if sale.changed_at < since - GRACE:
                raise self._error(
                    since,
                    f"brought a sale that changed before, at {_iso(sale.changed_at)} ({self._keys()}): the upstream "
                    "ignores the filter, or filters by something else",
                )

    def check_recent(self, recent: Iterable[tuple[str, datetime]], came: set[str], since: datetime) -> None:
        """Raise ConfigurationError where none of the changes that are known comes again, and there are some."""
        expected = {sale_id for sale_id, changed_at in recent if changed_at > since + GRACE}
        if len(expected) >= _ENOUGH and not expected & came:
            raise self._error(
                since,
                f"brought none of {len(expected)} sales that changed since, as earlier runs have read: the upstream "
                "filters by something else than the time of change",
            )

    def refused(self, since: datetime, why: object) -> ConfigurationError:
        """The error of an upstream that answers the filter with a refusal."""
        return self._error(since, f"was refused: {why}")

    def _keys(self) -> str:
        return f"looked for under {self._key}" if self._key else "looked for under updatedAt and the like"

    def _error(self, since: datetime, what: str) -> ConfigurationError:
        request = f"{TICKET_SALES.path}?{urlencode(self.query(since), safe=':$|,')}"
        return ConfigurationError(
            f"NEST_API_CHANGED_QUERY: the request {request} {what}. Correct it, or leave it out: then each run reads "
            "the whole list.",
            request=request,
        )


def upstream_clock(date: str | None, now: datetime, lookback: timedelta) -> tuple[datetime, timedelta | None]:
    """The moment that an answer speaks of: its `Date` header. And by how much that is off, where it is too much.

    Without a header that can be read it is our clock; where the two are more than half the lookback apart, the earlier
    one.
    """
    try:
        told = parsedate_to_datetime(date or "")
    except ValueError:
        return now, None
    told = told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)
    off = told - now
    return (min(told, now), off) if abs(off) > lookback / 2 else (told, None)


def most_recent(
    recent: Iterable[tuple[str, datetime]], sales: Iterable[ReadSale], now: datetime
) -> tuple[tuple[str, datetime], ...]:
    """The last changes that are known, those of `sales` included; none in the future, where a wrong clock puts it."""
    known = dict(recent)
    for sale in sales:
        if sale.sale_id is not None and sale.changed_at is not None and sale.changed_at <= now:
            known[sale.sale_id] = sale.changed_at
    return tuple(sorted(known.items(), key=lambda item: item[1], reverse=True)[:RECENT_KEPT])

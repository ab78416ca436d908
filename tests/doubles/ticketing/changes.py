"""How the sample ticketing API answers questions for what changed, for one sale, and for the time: well, or otherwise.

Pure, apart from the totals that `Changes` remembers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from tests.doubles.ticketing.cursors import Order, QueryError

Filtering = Literal["applied", "ignored", "stripped", "refused", "by creation"]
"""What becomes of a filter: applied, parsed and not applied, never seen by the handler, answered with 400, or applied
to the time of creation."""
RecordRoute = Literal["found", "none", "refused", "another"]
"""What `GET /ticket-sales/{id}` does: answers the sale or 404, isn't there, says 400, or answers some other sale."""


@dataclass
class Changes:
    """The knobs. `key` is the time that is filtered and sorted by, of type ISO 8601 in the data."""

    key: str = "updatedAt"
    filtering: Filtering = "applied"
    sorting: bool = True
    record_route: RecordRoute = "found"
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock_off: timedelta = timedelta()
    sends_date: bool = True
    cached_seconds: float = 0.0
    """How long a total is served from a cache."""
    view: Callable[[Sequence[Any]], Sequence[Any]] = lambda items: items
    """What a request sees of the sales: a lagging replica sees an older list."""
    takes_limit: bool = True
    totals: dict[str, tuple[datetime, int]] = field(default_factory=dict)

    def date(self) -> str:
        """The `Date` header, empty where none is sent."""
        if not self.sends_date:
            return ""
        return (self.clock() + self.clock_off).strftime("%a, %d %b %Y %H:%M:%S GMT")

    def total(self, key: str, counted: int) -> int:
        """The total that is declared for a list: from the cache while that is young."""
        now = self.clock()
        at, total = self.totals.get(key, (now, counted))
        if key not in self.totals or now - at >= timedelta(seconds=self.cached_seconds):
            self.totals[key] = (now, counted)
            return counted
        return total


FILTERS: Mapping[str, Callable[[str], str | None]] = {
    "filter.{field}": lambda value: value.removeprefix("$gte:") if value.startswith("$gte:") else None,
    "filter": lambda value: value.split("||")[2] if value.count("||") == 2 else None,
    "updated_after": lambda value: value,
    "updatedSince": lambda value: value,
}
"""The parameters of nestjs-paginate, @nestjsx/crud and plain APIs, and how the moment is read from the value."""
SORTS: Mapping[str, str] = {"sortBy": ":", "sort": ","}
"""The parameters that sort, and what stands between a field and its direction."""
OWN = ("updated_after", "updatedSince", "filter", *SORTS)


def without_changes(query: Mapping[str, str]) -> dict[str, str]:
    """The rest of a query."""
    return {name: value for name, value in query.items() if name not in OWN and not name.startswith("filter.")}


def read_moment(text: str) -> datetime:
    """ISO 8601, or Unix seconds or milliseconds."""
    if text.isdigit():
        return datetime.fromtimestamp(int(text) / (1000 if len(text) > 11 else 1), UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise QueryError(400, f"{text} must be a date") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def asked_since(query: Mapping[str, str], field_name: str) -> datetime | None:
    """The moment that a query filters by."""
    for name, read in FILTERS.items():
        value = query.get(name.format(field=field_name))
        if value is not None and (text := read(value)) is not None:
            return read_moment(text)
    return None


def changed_rows(items: Sequence[Any], query: Mapping[str, str], changes: Changes) -> Sequence[Any]:
    """The rows that a query asks for. Raises QueryError (400) where the upstream refuses filters."""
    since = asked_since(query, changes.key)
    if since is None or changes.filtering in ("ignored", "stripped"):
        return items
    if changes.filtering == "refused":
        raise QueryError(400, "property filter should not exist")
    name = "createdAt" if changes.filtering == "by creation" else changes.key
    return [item for item in items if (moment := _moment_of(item, name)) is not None and moment >= since]


def changed_order(query: Mapping[str, str], order: Order | None, changes: Changes) -> Order | None:
    """The order that a query asks for."""
    for name, between in SORTS.items():
        if changes.sorting and changes.filtering != "stripped" and name in query:
            key, _, direction = query[name].partition(between)
            return replace(order or Order(key), key=key, descending=direction.upper() == "DESC")
    return order


def _moment_of(item: Any, name: str) -> datetime | None:
    value = item.get(name) if isinstance(item, dict) else None
    return read_moment(str(value)) if value is not None else None

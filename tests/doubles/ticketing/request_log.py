"""What the sample ticketing API keeps of each request, and what it tells `on_page`."""

from dataclasses import dataclass
from typing import Any


@dataclass
class RequestSeen:
    """A request, and what it got.

    `number` counts from 1 in the order of arrival. `headers` have lower-case names. `at` is monotonic seconds.
    `dataset` is `events`, `ticket_sales` or None (no such path), `record` the id of a sale that is asked for by
    itself; `page` the number of the page asked for, also
    where pages are asked for by cursor. `status` is None where no status line was sent. `items` are those of the
    page (shallow copies), and None unless a whole page went out, as far as a server can know.
    """

    number: int
    at: float
    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    dataset: str | None = None
    record: str | None = None
    page: int | None = None
    status: int | None = None
    items: list[Any] | None = None
    fault: str | None = None

    def lose_items(self) -> None:
        self.items = None


@dataclass(frozen=True)
class PageServed:
    """A page whose rows have just been taken. `request` is the number of its `RequestSeen`, `page` the number
    of the page asked for; `items`, `total` and `last` are as the page shows them."""

    request: int
    dataset: str
    page: int
    items: list[Any]
    total: int
    last: bool

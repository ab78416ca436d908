"""How many records there were at a page's rows, within bounds, from the totals that other pages declare. Pure.

Upstreams take a page's rows and its total in two statements, in either order, and records arrive in between. So a
page's own total belongs to some moment of its request, and only other pages' bound the number of records there were
when its rows were taken: from below the total of a request that had ended before it began, from above that of a request
that began after it had ended.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable


class Arrivals:
    """The totals of one reading's pages, in the order in which the pages are read.

    `floor` is a total that was declared before the reading's first page was asked for, None if there is none.
    """

    def __init__(self, floor: int | None = None) -> None:
        self.has_fallen = False
        """Whether a request declared less than one that had ended before it began: records were deleted."""
        self.jumps = 0
        """How many repeated records had moved further than the records that can have arrived in front of them."""
        self._floor = floor
        self._ended: list[tuple[int, int]] = []
        self._open: list[tuple[int, list[int]]] = []

    @property
    def is_open(self) -> bool:
        """Whether some repeated record's move can't be judged without a further request."""
        return bool(self._open)

    def least(self, began: int) -> int | None:
        """At least so many records were there when a request began at this moment; None where nothing tells."""
        settled = [total for ended, total in self._ended if ended < began]
        if settled:
            self._ended = [(ended, total) for ended, total in self._ended if ended >= began]
            self._floor = max(settled if self._floor is None else (*settled, self._floor))
        return self._floor

    def add(self, began: int, ended: int, total: int | None, needed: Iterable[int] = ()) -> None:
        """Note a page's total and, for each repeated record on it, the total that would explain where it stands now."""
        if total is None:
            return
        least = self.least(began)
        self.has_fallen = self.has_fallen or (least is not None and total < least)
        still_open = []
        for page_ended, numbers in self._open:
            if page_ended < began:
                self.jumps += len(numbers) - bisect_right(numbers, total)
            else:
                still_open.append((page_ended, numbers))
        unexplained = sorted(number for number in needed if number > total)
        self._open = [*still_open, (ended, unexplained)] if unexplained else still_open
        self._ended.append((ended, total))

    def close(self) -> None:
        """No further page is read: what isn't explained by now is a jump."""
        self.jumps += sum(len(numbers) for _, numbers in self._open)
        self._open = []

"""What is kept of a sale: one row, for a sale that counts and for one that can't be used alike. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from etl.extract.sale_pages import ReadSale
from etl.records.fields import SENT, Rejected
from etl.records.reader import MAX_ID_BYTES
from etl.records.values import is_storable
from etl.transform.tables import amount_text

NO_ID = "sale_id_missing"
"""Why a sale without an id can't be used: nothing tells what becomes of it later."""
_HASHED = "no id: "
COUNTED = ("event_id", "sale_date", "quantity", "amount")
"""What a sale is counted by, where it counts at all."""
COMPARED = (*COUNTED, "is_undated", "changed_at", "reason")
"""What makes a kept sale another one."""


class KeptSale(NamedTuple):
    """A row of the kept sales. One that can't be used has its reason, and is in no sum.

    `sale_date` is a day in the run's zone as ISO 8601, `amount` has 9 decimals, and the moments are in UTC.
    `created_at` isn't kept: it tells that a sale can't have been read before.
    """

    sale_id: str
    event_id: str | None
    sale_date: str | None
    quantity: int | None
    amount: str | None
    is_undated: bool
    changed_at: datetime | None
    reason: str | None
    created_at: datetime | None = None


class Copies:
    """Numbers the records without an id that have the same content: nothing else tells them apart."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def key(self, text: str) -> str:
        """The key under which the next record with this content is kept."""
        digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
        self._counts[digest] += 1
        return f"{_HASHED}{digest} {self._counts[digest]}"


def kept_sales(sales: Iterable[ReadSale], copies: Copies) -> Iterator[KeptSale]:
    """The rows of sales as they were read."""
    for sale in sales:
        record, sale_id = sale.record, sale.sale_id
        if isinstance(record, Rejected):
            key = copies.key(sale.text or "") if sale_id is None else _key(sale_id)
            yield KeptSale(key, None, None, None, None, False, sale.changed_at, record.reason, sale.created_at)
        elif sale_id is None:
            yield KeptSale(copies.key(sale.text or ""), None, None, None, None, False, sale.changed_at, NO_ID)
        elif (key := _key(sale_id)) != sale_id:
            yield KeptSale(key, None, None, None, None, False, sale.changed_at, "sale_id_not_text")
        else:
            yield KeptSale(
                sale_id,
                record.event_id,
                record.sale_date.isoformat(),
                record.quantity,
                amount_text(record.total_nano),
                record.date_source != SENT,
                sale.changed_at,
                None,
                sale.created_at,
            )


def _key(sale_id: str) -> str:
    """An id as a key: as it is, or its hash where a table can't hold it."""
    if is_storable(sale_id) and len(sale_id.encode()) <= MAX_ID_BYTES:
        return sale_id
    return _HASHED + hashlib.sha256(sale_id.encode(errors="surrogatepass")).hexdigest()

"""Whether a page brings the records of an earlier one again, as an upstream sends them that ignores `page`. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Any

from etl.extract.items import ItemDecoder, ItemT, items_in
from etl.records.fields import CANDIDATES, first_of


class Repeat(Enum):
    """How much of an earlier page comes again."""

    WHOLE = "all but what is new since then"
    PART = "some of it"
    NONE = "nothing"


def repeat_of(beginning: bytes, earlier: bytes, decoder: ItemDecoder[ItemT]) -> Repeat:
    """Compare two pages by what they begin with.

    New records may have come meanwhile. In a list of any one order a page brings nothing else that is new if its last
    record was on the earlier page, or all of that page is on it. Records without ids are compared by their text.
    """
    if beginning == earlier:
        return Repeat.WHOLE
    ids, known = _ids(beginning, decoder), set(_ids(earlier, decoder))
    if ids and known:
        is_again = ids[-1] in known or known.issubset(ids)
        return Repeat.WHOLE if is_again else Repeat.NONE if known.isdisjoint(ids) else Repeat.PART
    texts, known_texts = ([text for _, text in items_in(page)] for page in (beginning, earlier))
    again = sum(text in set(known_texts) for text in texts)
    return Repeat.WHOLE if 2 * again > len(texts) else Repeat.PART if again else Repeat.NONE


def _ids(beginning: bytes, decoder: ItemDecoder[ItemT]) -> list[str]:
    items = (decoder.convert(value) for value, _ in items_in(beginning))
    ids: list[Any] = [first_of(item, next(iter(CANDIDATES[type(item)]))) for item in items if item is not None]
    return [str(identifier) for identifier in ids if identifier is not None]

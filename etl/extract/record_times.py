"""When each record of a batch was changed last, or created, as its upstream says. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from etl.extract.items import LENIENT, Batch
from etl.records.values import read_moment

CHANGE_KEYS = ("updatedAt", "updated_at", "modifiedAt", "modified_at")
"""Where a record's time of change is looked for, in this order, where no setting names the key."""
CREATION_KEYS = ("createdAt", "created_at")
"""Where its time of creation is looked for."""


class RecordTimes:
    """Reads a time of each record of whole batches, under the first of these keys that it has."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        attributes: list[Any] = [(f"time_{number}", Any, None) for number in range(len(self._keys))]
        rename = {f"time_{number}": name for number, name in enumerate(self._keys)}
        item_type = msgspec.defstruct("TimedItem", attributes, rename=rename, gc=False)
        self._decoder = msgspec.json.Decoder(list[item_type], float_hook=str)  # type: ignore[valid-type]
        self._names = tuple(rename)

    def read(self, batch: Batch[Any]) -> list[datetime | None]:
        """The time of each item, in UTC; None where it has none, or one that can't be read (see `read_moment`)."""
        return [None if value is None else read_moment(value) for value in self._values(batch)]

    def _values(self, batch: Batch[Any]) -> list[Any]:
        try:
            items = self._decoder.decode(batch.source)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [self._value_in(text) for text in batch.texts()]
        if len(self._names) == 1:
            return [getattr(item, self._names[0]) for item in items]
        return [next((v for name in self._names if (v := getattr(item, name)) is not None), None) for item in items]

    def _value_in(self, text: str) -> Any:
        with suppress(json.JSONDecodeError, RecursionError):
            item = LENIENT.decode(text)
            if isinstance(item, dict):
                return next((item[key] for key in self._keys if item.get(key) is not None), None)
        return None

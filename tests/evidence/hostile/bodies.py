"""What hostile answers are made of: bodies in pieces, bombs, and what is to become of each."""

import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.http_server import Answer

MEBIBYTE = 1 << 20
MILLION = 1_000_000
SALE: dict[str, Any] = {"id": 1, "event_id": "e", "quantity": 2, "price": "2.50", "sale_date": "2026-11-20T10:00:00Z"}
REFUSED, TIMED_OUT, LOADED, REJECTED = "upstream_error", "deadline_exceeded", "success", "too_many_rejects"


@dataclass(frozen=True)
class Hostile:
    """`answer` makes what is sent; `code` is how the run ends, `words` stand in the error.

    `sales` are read where it succeeds, and `rejected` are the reasons of what is kept aside. A run that can only end at
    its deadline has a short one. `dataset` is what is sent so.
    """

    code: str
    words: str
    answer: Callable[[], Answer]
    deadline: float = 25.0
    sales: int = 1
    rejected: Mapping[str, int] = field(default_factory=dict)
    dataset: str = "ticket-sales"


def body(*pieces: bytes | Iterable[bytes], **headers: str) -> Answer:
    """200 with these pieces one after the other, without a Content-Length unless one is given."""
    parts = ([piece] if isinstance(piece, bytes) else piece for piece in pieces)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(200, itertools.chain.from_iterable(parts), {"Content-Type": "application/json"} | named)


def sale(**fields: Any) -> bytes:
    return json.dumps(SALE | fields).encode()


def endless(piece: bytes) -> Iterator[bytes]:
    return itertools.repeat(piece * (65_536 // len(piece) + 1))


GZIP, ZLIB, RAW = 31, 15, -15


def bomb(before: bytes, text: bytes, window: int = GZIP, mebibytes: int | None = 1024) -> Iterable[bytes]:
    """`before` and so many MiB of a text (None: without end), packed as one stream that breaks off.

    Its blocks don't refer to each other, so that the same one can be sent again and again.
    """
    packer = zlib.compressobj(9, wbits=window)
    head = packer.compress(before) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(text * (MEBIBYTE // max(len(text), 1))) + packer.flush(zlib.Z_FULL_FLUSH)
    return itertools.chain([head], itertools.repeat(block) if mebibytes is None else itertools.repeat(block, mebibytes))

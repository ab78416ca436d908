"""Rows by COPY into a table, in PostgreSQL's text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import sqlalchemy as sa

from etl.deadline import Deadline
from etl.errors import EtlError

_CHUNK_ROWS = 500
"""Some 20 KiB of daily rows; 5 MB where each event's name is as long as it may be."""
NULL = "\\N"
"""A null in COPY's text format."""
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_rows(
    connection: sa.Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[tuple[str | None, ...]],
    deadline: Deadline,
    is_text: Sequence[bool] | None = None,
) -> None:
    """COPY rows of texts (None: null) into a table. `is_text`: which columns may hold anything, by default all.

    The others are written as they are: a null among them is NULL.
    """
    cursor: Any = connection.connection.cursor()  # pg8000's, whose `execute` takes the stream of a COPY
    try:
        cursor.execute(
            f"COPY {table} ({', '.join(columns)}) FROM STDIN",
            stream=_chunks(iter(rows), deadline, is_text or [True] * len(columns)),
        )
    except EtlError:
        # The server still waits for the rest of the rows: a rollback would fail, and hide why.
        connection.invalidate()
        raise
    finally:
        cursor.close()


def _chunks(rows: Iterator[tuple[str | None, ...]], deadline: Deadline, is_text: Sequence[bool]) -> Iterator[str]:
    """Pieces large enough not to cost a system call a row."""
    while piece := list(islice(rows, _CHUNK_ROWS)):
        deadline.check()
        columns: Any = zip(is_text, zip(*piece, strict=True), strict=True)
        written = [map(_copy_text, values) if text else values for text, values in columns]
        yield "\n".join(map("\t".join, zip(*written, strict=True))) + "\n"


@lru_cache(maxsize=4096)
def _copy_text(value: str | None) -> str:
    """A value in COPY's text format. Cached: an event's id stands in each of its rows."""
    return NULL if value is None else value.translate(_ESCAPES)

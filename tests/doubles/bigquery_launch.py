"""The BigQuery emulator's process: `bqemulator`, with what it needs of the machine, and with less to parse.

Half of its work was parsing: each statement some twenty times, and the seventeen templates of sqlglot's generator for
each text that it writes. Here each text is parsed once, which leaves little more than half of the work.
"""

import sys
from functools import lru_cache
from typing import Any

import duckdb_extensions
import sqlglot
from sqlglot import Expr

_ORIGIN = {"line", "col", "start", "end"}
_parse_anew = sqlglot.parse_one


@lru_cache(512)
def _parse(sql: str, **options: Any) -> Expr:
    """A tree whose nodes don't say from where in the text they come: so it is copied in half of the time."""
    tree: Expr = _parse_anew(sql, **options)
    for node in tree.walk():
        if node._meta:
            node._meta = {name: value for name, value in node._meta.items() if name not in _ORIGIN} or None
    return tree


def _parse_once(sql: str, **options: Any) -> Expr:
    tree = _parse(sql, **options)
    # A generator's templates are its class's, and are shared; where sqlglot is compiled, each object makes its own.
    is_template = sys._getframe(1).f_code.co_name == "generator"
    return tree if is_template else tree.copy()


if __name__ == "__main__":
    # DuckDB wants its spatial extension in the home directory, and the emulator won't start without it. The package
    # brings it along; putting it in its place is quick where it is there already.
    duckdb_extensions.import_extension("spatial")
    setattr(sqlglot, "parse_one", _parse_once)  # noqa: B010 - it has overloads
    from bqemulator.cli import main

    main()

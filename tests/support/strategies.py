"""What the property tests share: hypothesis' profile, and JSON as an upstream may send it."""

import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The same examples in each run: a red test is red again, and no run takes longer than the one before it.
settings.register_profile("veritix", deadline=None, derandomize=True, max_examples=150)
settings.load_profile("veritix")
FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
FUZZED = settings(
    max_examples=FUZZ_EXAMPLES or 500,
    derandomize=not FUZZ_EXAMPLES,
    print_blob=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""How the fuzzing tests play: 500 examples, always the same, or as many others as FUZZ_EXAMPLES says."""

NUMBER_TEXTS = st.one_of(
    st.integers().map(str),
    st.integers(-(2**63) - 2, 2**63 + 1).map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.from_regex(r"[+-]?(0|[1-9][0-9]{0,32})(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
"""Numbers as text, most of them as JSON writes them, many beyond what the stores can hold."""
DATE_TEXTS = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.datetimes().map(lambda moment: moment.isoformat(" ") + "Z"),
    st.datetimes().map(lambda moment: moment.isoformat() + "-11:30"),
    st.dates().map(lambda day: day.isoformat()),
    st.dates().map(lambda day: f"{day:%Y%m%d}"),
    st.from_regex(r"[0-9]{3,4}[-eW][-0-9]{1,3}[-T ]?[-0-9:]{0,12}", fullmatch=True),
)
JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "0", 0, 0.0, -0.0, 5, "5", 5.5, 2.0, "\0", "\ud800"]),
    NUMBER_TEXTS,
    DATE_TEXTS,
)
NESTED_VALUES = st.recursive(
    JSON_VALUES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "event_id", "x"]), inner),
    max_leaves=3,
)


def items(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """Items that have some of these keys, with values of any type."""
    return st.dictionaries(st.sampled_from(keys), NESTED_VALUES, max_size=8)


def body_of(*values: object) -> bytes:
    """A JSON array, with `NaN` as JavaScript would never write it where a float is none."""
    return json.dumps(values).encode()

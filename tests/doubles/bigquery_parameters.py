"""A script's parameters, written into it: BigQuery takes them in scripts, the emulator in single statements only."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_TOKENS = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`|@(?P<name>\w+)""")
_QUOTED = {"STRING": "", "DATE": "DATE ", "TIMESTAMP": "TIMESTAMP ", "NUMERIC": "NUMERIC "}


def with_parameters(query: str, parameters: Sequence[Mapping[str, Any]]) -> str:
    """The query with each named parameter in its place, as a literal of its type."""
    literals = {one["name"]: _literal(one["parameterType"], one["parameterValue"]) for one in parameters}
    return _TOKENS.sub(lambda found: literals[found["name"]] if found["name"] else found[0], query)


def _literal(kind: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    name = kind["type"]
    if name == "ARRAY":
        items = [_literal(kind["arrayType"], item) for item in value.get("arrayValues", ())]
        return f"ARRAY<{_type(kind['arrayType'])}>[{', '.join(items)}]"
    if name == "STRUCT":
        values = value["structValues"]
        parts = [_literal(field["type"], values[field["name"]]) for field in kind["structTypes"]]
        return f"({', '.join(parts)})"
    text = value.get("value")
    if text is None:
        return "NULL"
    if name not in _QUOTED:
        return f"{name} '{text}'" if name not in ("INT64", "BOOL") else str(text)
    return _QUOTED[name] + json.dumps(text, ensure_ascii=False)


def _type(kind: Mapping[str, Any]) -> str:
    if kind["type"] == "STRUCT":
        fields = ", ".join(f"{field['name']} {_type(field['type'])}" for field in kind["structTypes"])
        return f"STRUCT<{fields}>"
    return str(kind["type"])

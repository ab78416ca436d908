"""Where a page's list of items begins, and what stands around it: its envelope. Pure."""

from __future__ import annotations

import re
from typing import Any

from etl.extract.items import LENIENT, BodyError, decode_text

ITEM_KEYS = ("data", "results", "items", "docs")
"""Where the items stand, first choice first; also inside an object under one of these."""
# Possessive: to go back into a text of a million escapes would take a hundred bytes for each.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:,]|[^\s{}\[\]:,"]+|"', re.DOTALL)


def items_start(data: bytes) -> int | None:
    """The place after the `[` that opens the list of items; None where more of the body is needed to tell."""
    keys: list[bytes | None] = []  # under which key each open container stands
    top_level: list[str] = []
    last = key = None
    for match in _TOKEN.finditer(data):
        token = match[0]
        if token == b'"':
            return None
        if token in (b"{", b"["):
            if token == b"[" and len(keys) <= 2 and _holds_items((*keys[1:], key) if keys else ()):
                return match.end()
            keys.append(key)
            key = None
        elif token in (b"}", b"]"):
            keys[-1:] = []
            key = None
            if not keys:
                raise BodyError(
                    f"has no list under {', '.join(ITEM_KEYS)}; its keys are {', '.join(top_level[:20]) or 'none'}"
                )
        elif token == b":":
            key = last
            if len(keys) == 1 and key is not None:
                top_level.append(key[1:-1].decode(errors="replace")[:50])
        elif token == b",":
            key = None
        else:
            last = token
        if not keys:
            raise BodyError("is neither a JSON object nor an array")
    return None


_ITEM_TOKENS = frozenset(f'"{key}"'.encode() for key in ITEM_KEYS)


def _holds_items(path: tuple[bytes | None, ...]) -> bool:
    """Whether a list under these keys, at most two, is the list of items: at the top, or under item keys only."""
    return all(key in _ITEM_TOKENS for key in path)


def read_envelope(text: bytes) -> dict[str, Any]:
    """What stands around the (now empty) list of items; an inner object's keys beside the outer ones."""
    try:
        envelope = LENIENT.decode(decode_text(text))
    except (ValueError, RecursionError):
        raise BodyError("isn't valid JSON: what stands around its items can't be read") from None
    if not isinstance(envelope, dict):
        return {}
    _check_one_list(envelope)
    inner = next((v for k in ITEM_KEYS if isinstance(v := envelope.get(k), dict) and _has_list(v)), {})
    _check_one_list(inner)
    merged = {**envelope, **inner}
    return {key: value for key, value in merged.items() if key not in ITEM_KEYS}


def failure_in(envelope: dict[str, Any], item_count: int) -> str | None:
    """What an answer says of its failure, though its status is that of a success; None where it doesn't say so."""
    errors = [error for key in ("error", "errors") if (error := envelope.get(key))]
    has_failed = any(envelope.get(key) is False for key in ("success", "ok"))
    if not has_failed and (item_count or not errors):
        return None

    return next((text for said in (envelope.get("message"), *errors) if (text := _text_of(said))), "")


def _text_of(said: Any) -> str:
    """A message, or the first of several; of an object its own."""
    if isinstance(said, list):
        said = said[0] if said else None
    if isinstance(said, dict):
        said = said.get("message")
    return said if isinstance(said, str) else ""


def _check_one_list(holder: dict[str, Any]) -> None:
    """The first list in the text was taken for the items: with another one beside it that is a guess."""
    lists = [key for key in ITEM_KEYS if isinstance(holder.get(key), list)]
    if len(lists) > 1:
        raise BodyError(f"has lists under {' and '.join(lists)}: which of them are the items?")


def _has_list(inner: dict[str, Any]) -> bool:
    return any(isinstance(inner.get(key), list) for key in ITEM_KEYS)

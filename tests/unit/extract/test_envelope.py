"""Where the list of items begins, and what stands around it."""

from typing import Any

import pytest

from etl.extract.envelope import failure_in, items_start, read_envelope
from etl.extract.items import BodyError
from etl.records.fields import NumberText

STARTS = [
    pytest.param(b" [", 2, id="bare array"),
    pytest.param(b'{"data":[', 9, id="under an item key"),
    pytest.param(b'{"a":[[1],{"data":[]}],"items":[', 32, id="other lists before"),
    pytest.param(b'{"data":{"total":1,"results":[', 30, id="under two item keys"),
    pytest.param(b'{"data":"[","items":[', 21, id="a bracket in a text"),
    pytest.param(b'{"x":"\\"data\\":[","data":[', 26, id="escapes in a text"),
    pytest.param(b"", None, id="nothing yet"),
    pytest.param(b'{"data"', None, id="a key"),
    pytest.param(b'{"data":{"x":1,', None, id="half an object"),
    pytest.param(b'{"data":"[', None, id="half a text"),
]


@pytest.mark.parametrize(("beginning", "start"), STARTS)
def test_items_start(beginning: bytes, start: int | None) -> None:
    """The place behind the list's bracket, however much follows; None as long as it can't be told."""
    assert items_start(beginning) == start
    if start is not None:
        assert items_start(beginning + b"]" * 9) == start
        assert items_start(beginning[:-1]) is None


def test_envelope_keeps_numbers_apart_from_text() -> None:
    """A float of the envelope is its text, of a type of its own."""
    envelope = read_envelope(b'{"a":1.5,"b":"1.5","data":[]}')
    assert [(key, type(value)) for key, value in envelope.items()] == [("a", NumberText), ("b", str)]


def test_inner_keys_win() -> None:
    """What stands inside the object that holds the items is kept beside the outer keys, and before them."""
    envelope = read_envelope(b'{"total":1,"page":2,"data":{"items":[],"total":3}}')
    assert envelope == {"total": 3, "page": 2}


TWO_LISTS = [
    pytest.param(b'{"items":[],"data":[]}', "items|data", id="side by side"),
    pytest.param(b'{"data":{"items":[],"results":[1]}}', "results and items", id="inside"),
]


@pytest.mark.parametrize(("text", "keys"), TWO_LISTS)
def test_one_list_only(text: bytes, keys: str) -> None:
    """Lists under two item keys are refused: which of them are the items would be a guess."""
    with pytest.raises(BodyError, match=f"has lists under .*({keys})"):
        read_envelope(text)


FAILURES: list[Any] = [
    pytest.param({"success": False}, 3, "", id="success"),
    pytest.param({"ok": False, "message": "no"}, 0, "no", id="ok"),
    pytest.param({"error": "no database"}, 0, "no database", id="error"),
    pytest.param({"errors": [{"message": "late"}, {"message": "later"}]}, 0, "late", id="errors"),
    pytest.param({"error": {"code": 7}}, 0, "", id="error without words"),
    pytest.param({"error": "some weren't found"}, 3, None, id="error beside items"),
    pytest.param({"success": True, "ok": True, "error": None, "errors": [], "status": "ok"}, 0, None, id="none"),
    pytest.param({"success": "no", "ok": 0, "error": False, "status": 200}, 0, None, id="other values"),
    pytest.param({}, 0, None, id="nothing"),
]


@pytest.mark.parametrize(("envelope", "items", "said"), FAILURES)
def test_failures(envelope: dict[str, Any], items: int, said: str | None) -> None:
    """An answer may say that it failed, and why; an error beside items is one of something else."""
    assert failure_in(envelope, items) == said

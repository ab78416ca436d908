"""When records were changed, as their upstream says."""

from datetime import UTC, datetime
from typing import Any

import pytest

from etl.extract.items import ItemDecoder
from etl.extract.record_times import CHANGE_KEYS, RecordTimes
from etl.records.fields import SaleItem

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
TIMES: list[Any] = [
    pytest.param(b'[{"updatedAt": "2026-11-26T12:00:00Z"}]', None, [NOON], id="ISO 8601"),
    pytest.param(b'[{"updated_at": "2026-11-26T13:00:00+01:00"}]', None, [NOON], id="another zone, another name"),
    pytest.param(b'[{"updatedAt": "2026-11-26T12:00:00"}]', None, [NOON], id="without a zone"),
    pytest.param(b'[{"updatedAt": 1795694400}]', None, [NOON], id="Unix seconds"),
    pytest.param(b'[{"updatedAt": "1795694400000"}]', None, [NOON], id="Unix milliseconds, as text"),
    pytest.param(b'[{"updatedAt": null}, {}]', None, [None, None], id="null and none"),
    pytest.param(b'[{"updatedAt": "soon"}, {"updatedAt": {}}]', None, [None, None], id="unreadable"),
    pytest.param(b'[{"updatedAt": null, "modifiedAt": 1795694400}]', None, [NOON], id="the first that isn't null"),
    pytest.param(b'[{"updatedAt": 1, "lastModified": 1795694400}]', "lastModified", [NOON], id="the key that is named"),
    pytest.param(b'[7, {"updatedAt": 1795694400}]', None, [None, NOON], id="beside one that is no object"),
    pytest.param(b'[{"id": "\\ud800", "updatedAt": 1795694400}]', None, [NOON], id="beside a lone surrogate"),
]


@pytest.mark.parametrize(("body", "key", "times"), TIMES)
def test_times_of_change(body: bytes, key: str | None, times: list[datetime | None]) -> None:
    """Each item's, in UTC; None where it has none that can be read."""
    decoder = ItemDecoder(SaleItem)
    try:
        batch = decoder.decode(body)
    except ValueError:
        from etl.extract.items import scan_batch

        found = scan_batch(body, True, decoder)
        assert found is not None
        batch = found[0]
    assert RecordTimes(CHANGE_KEYS if key is None else (key,)).read(batch) == times

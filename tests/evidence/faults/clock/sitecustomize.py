"""Shifts the wall clock of a Python process by the seconds in the file `SHIFTED_CLOCK`; monotonic time stays as it is.

Python runs it at its start, where it is on PYTHONPATH. It stands alone: none of the project is imported.
"""

import datetime
import os
import time
from pathlib import Path

_SHIFT = Path(os.environ["SHIFTED_CLOCK"])
_real_time = time.time
_real_datetime = datetime.datetime


def _shift() -> float:
    try:
        return float(_SHIFT.read_text() or 0)
    except FileNotFoundError:
        return 0.0


def _time() -> float:
    return _real_time() + _shift()


class _AnyDatetime(type):
    """What C code makes is one too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _real_datetime)


class _ShiftedDatetime(datetime.datetime, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return cls.fromtimestamp(_time(), tz)

    @classmethod
    def utcnow(cls) -> datetime.datetime:  # type: ignore[override]
        return cls.fromtimestamp(_time(), datetime.UTC).replace(tzinfo=None)


time.time = _time
time.time_ns = lambda: int(_time() * 1e9)
datetime.datetime = _ShiftedDatetime  # type: ignore[misc]

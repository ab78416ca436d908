"""The bearer token: read once, and read anew once where the upstream refuses it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Token:
    """The bearer token, read on first use; `renew` reads it again, once."""

    read: Callable[[], str | None]
    can_renew: bool = False
    _value: str | None = field(default=None, repr=False)
    _is_read: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def value(self) -> str | None:
        with self._lock:
            if not self._is_read:
                self._value, self._is_read = self.read(), True
            return self._value

    def renew(self, refused: str | None) -> bool:
        """Whether there is another token than the refused one to try."""
        with self._lock:
            if self._value == refused and self.can_renew:
                self.can_renew = False
                self._value = self.read()
                return True
            return self._value != refused

"""Ids that sort by time: a prefix and a UUIDv7 (RFC 9562, section 5.7) in hexadecimal."""

import threading
import time
from collections.abc import Callable
from typing import Final

from service_kit.randomness import random_bytes

_VERSION: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62
_COUNTER_BITS: Final = 12 + 62
_COUNTER_MAX: Final = (1 << _COUNTER_BITS) - 1


def new_id(prefix: str) -> str:
    """Make an id such as `ord_019a8c2f5d7e7b3c8f21d4a6b8c0e2f4`, greater than all before it.

    Greater within this process, also when its clock goes back; between processes ids sort by
    their millisecond.
    """
    return f"{prefix}{_sequence.next():032x}"


class _Sequence:
    """UUIDv7s in ascending order. `now` tells nanoseconds since 1970."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._millisecond = 0
        self._counter = 0

    def next(self) -> int:
        now = self._now() // 1_000_000
        with self._lock:
            if now > self._millisecond:
                self._begin(now)
            else:
                # RFC 9562, section 6.2, method 2: a random step keeps ids hard to guess.
                self._counter += 1 + _random(32)
                if self._counter > _COUNTER_MAX:
                    self._begin(self._millisecond + 1)
            millisecond, counter = self._millisecond, self._counter
        high, low = counter >> 62, counter & ((1 << 62) - 1)
        return millisecond << 80 | _VERSION | high << 64 | _VARIANT | low

    def _begin(self, millisecond: int) -> None:
        self._millisecond = millisecond
        # The top bit is left free, so that the steps that follow have room.
        self._counter = _random(_COUNTER_BITS - 1)


_sequence: Final = _Sequence(time.time_ns)


def _random(bits: int) -> int:
    return int.from_bytes(random_bytes((bits + 7) // 8), "big") & ((1 << bits) - 1)

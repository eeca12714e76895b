"""Random bytes for what every call makes: ids, traces, salts.

Whoever asks the system for them lets all other threads go first, and waits for the interpreter
again. On a busy server that takes far longer than the bytes do; so many are fetched at a time.
"""

import os
from collections import deque
from typing import Final

PORTION_BYTES: Final = 16
_PORTIONS: Final = 256

_stock: Final[deque[bytes]] = deque()
# Two processes never have the same.
os.register_at_fork(after_in_child=_stock.clear)


def random_bytes(count: int) -> bytes:
    """Return so many bytes, at most 16, that nobody can foresee."""
    assert count <= PORTION_BYTES
    while True:
        try:
            # One step for the interpreter: no two threads get the same portion.
            return _stock.pop()[:count]
        except IndexError:
            fetched = os.urandom(PORTION_BYTES * _PORTIONS)
            _stock.extend(
                fetched[at : at + PORTION_BYTES] for at in range(0, len(fetched), PORTION_BYTES)
            )

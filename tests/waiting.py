"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable


def eventually(is_so: Callable[[], object], *, seconds: float = 30) -> None:
    """Return once it is so. Fails if it is not within so many seconds."""
    give_up_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up_at, f"not within {seconds} s"
        time.sleep(0.02)

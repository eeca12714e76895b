"""How many calls are served at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service_kit.errors import Overloaded


class Places:
    """Lets `limit` calls in at a time. One more is refused at once, and waits for nobody."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = threading.Semaphore(limit)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place for the block. Raises Overloaded."""
        if not self._free.acquire(blocking=False):
            raise Overloaded
        try:
            yield
        finally:
            self._free.release()

"""How many calls are served at a time."""

import threading


class Places:
    """Has a place for `limit` calls at a time. Nobody waits for one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = threading.Semaphore(limit)

    def take(self) -> bool:
        """Take a place, to be given back; say whether there was one."""
        return self._free.acquire(blocking=False)

    def give_back(self) -> None:
        """Let another have it."""
        self._free.release()

"""The threads that serve calls, and how long they have had nothing to do."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

# Who is refused must not wait for the thread of one who is served.
_THREADS_TO_REFUSE: Final = 2


class CallPool(ThreadPoolExecutor):
    """Has a thread for each of so many calls, and for refusing more.

    What waits for a thread counts as a call too.
    """

    def __init__(self, calls: int, *, thread_name_prefix: str) -> None:
        super().__init__(calls + _THREADS_TO_REFUSE, thread_name_prefix=thread_name_prefix)
        self._calls = 0
        self._idle_since = time.monotonic()
        self._counting = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Run a call when there is a thread for it."""
        future = super().submit(fn, *arguments, **named)
        with self._counting:
            self._calls += 1
        future.add_done_callback(self._is_over)
        return future

    def idle_seconds(self) -> float:
        """Say for how long there has been no call; 0 while there is one."""
        with self._counting:
            return 0.0 if self._calls else time.monotonic() - self._idle_since

    def _is_over(self, _call: Future[Any]) -> None:
        with self._counting:
            self._calls -= 1
            self._idle_since = time.monotonic()

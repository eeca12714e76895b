"""The threads that serve calls, and how long they have had nothing to do."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

# Who is refused must not wait for the thread of one who is served.
_THREADS_TO_REFUSE: Final = 2


class _NobodysFuture(Future[Any]):
    """What grpc gets for a call. It wants to be told when the call is over, and is not.

    It would count the calls under way, under the lock that every new one waits for, and has no
    limit to compare them with.
    """

    def add_done_callback(self, _callback: Callable[[Future[Any]], object]) -> None:
        """Forget it."""


_FUTURE: Final = _NobodysFuture()


class CallPool(ThreadPoolExecutor):
    """Has a thread for each of so many calls, and for refusing more.

    An executor in the eyes of grpc, without an executor's futures, each of which costs several
    times what it takes to hand a call to a thread. Nobody asks for a call's result; an exception
    that leaves one is told by `threading.excepthook`. What waits for a thread counts as a call.
    One that outlasts the drain does not keep the process: it ends with it, as if that was killed.
    """

    def __init__(self, calls: int, *, thread_name_prefix: str) -> None:
        self._limit = calls + _THREADS_TO_REFUSE
        super().__init__(self._limit)
        self._name = thread_name_prefix
        self._starting = threading.Lock()
        self._started = 0
        self._shut_down = threading.Event()
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        # Both change in one step each, so that a call takes no lock: who is under way, and a token
        # for each thread that waits.
        self._under_way: set[object] = set()
        self._waiting: list[None] = []
        self._idle_since = time.monotonic()

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Run a call when there is a thread for it. Raises RuntimeError after the shutdown."""
        if self._shut_down.is_set():
            raise RuntimeError("no call is served after the shutdown")
        call = partial(fn, *arguments, **named)
        self._under_way.add(call)
        self._queue.put(call)
        try:
            self._waiting.pop()
        except IndexError:
            self._start_one()
        if self._shut_down.is_set():
            # Since it was looked at: whoever waited may have left.
            self._start_one()
        return _FUTURE

    def idle_seconds(self) -> float:
        """Say for how long there has been no call; 0 while there is one."""
        return 0.0 if self._under_way else time.monotonic() - self._idle_since

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the executor's
        """Let the threads go once they have served what waits, or without it. Nobody waits."""
        self._shut_down.set()
        if cancel_futures:
            with suppress(Empty):
                while True:
                    self._under_way.discard(self._queue.get_nowait())
        self._queue.put(None)

    def _start_one(self) -> None:
        with self._starting:
            if self._started == self._limit:
                return
            name = f"{self._name}_{self._started}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
            self._started += 1

    def _serve(self) -> None:
        while call := self._queue.get():
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - the thread serves others
                _tell(error)
            self._idle_since = time.monotonic()
            self._under_way.discard(call)
            del call  # and what it holds, while this thread waits
            self._waiting.append(None)
        self._queue.put(None)  # for the next one


def _tell(error: BaseException) -> None:
    told = (type(error), error, error.__traceback__, threading.current_thread())
    threading.excepthook(threading.ExceptHookArgs(told))

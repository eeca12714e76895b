"""Work that nobody waits for: the same tasks in every process, repeated until the server stops."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from service_kit.errors import ConcurrentUpdate, StorageUnavailable
from service_kit.logging import get_logger

_JITTER: Final = (0.8, 1.2)
_BACKOFF_SECONDS_MAX: Final = 10.0
# The number of failures has no bound.
_DOUBLED_MAX: Final = 10


@dataclass(frozen=True)
class Task:
    """Something to do again and again.

    `run` does one piece of what is due and says whether there may be more. It is run by several
    processes at once, and by `threads` threads of each; without more to do, every
    `pause_seconds` or so.
    """

    name: str
    run: Callable[[], bool]
    threads: int = 1
    pause_seconds: float = 1.0


class Workers:
    """Runs tasks on threads of their own if `switched_on`, else only when it is asked to.

    `observe` is told of every run: the task's name, and what it raised. A task that fails is run
    again: soon if the database did not answer, ever later if it is a bug.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        switched_on: bool = True,
        observe: Callable[[str, Exception | None], None] = lambda _name, _error: None,
    ) -> None:
        self._observe = observe
        self._log = get_logger()
        self._stopping = threading.Event()
        self._tasks = {task.name: task for task in tasks}
        self._threads = [
            threading.Thread(
                target=self._repeat, args=(task,), name=f"{task.name}-{number}", daemon=True
            )
            for task in tasks
            for number in range(task.threads if switched_on else 0)
        ]

    def run(self, name: str) -> bool:
        """Do one piece of a task in the caller's thread. Say whether there may be more."""
        return self._tasks[name].run()

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> None:
        """Begin nothing more, and wait for what has begun, at most so long."""
        self._stopping.set()
        give_up_at = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, give_up_at - time.monotonic()))

    def _repeat(self, task: Task) -> None:
        failures = 0
        while not self._stopping.is_set():
            pause = task.pause_seconds
            try:
                more = task.run()
            except (StorageUnavailable, ConcurrentUpdate) as error:
                self._observe(task.name, error)
                self._log.warning("worker.interrupted", worker=task.name, error=str(error))
                more = False
            except Exception as error:  # noqa: BLE001 - a task ends with its process only
                failures += 1
                doubled = 2 ** min(failures, _DOUBLED_MAX)
                pause = min(pause * doubled, _BACKOFF_SECONDS_MAX)
                self._observe(task.name, error)
                self._log.error("worker.failed", worker=task.name, exc_info=error)
                more = False
            else:
                failures = 0
                self._observe(task.name, None)
            if not more:
                # Not in step with the other threads and processes.
                self._stopping.wait(pause * random.uniform(*_JITTER))  # noqa: S311

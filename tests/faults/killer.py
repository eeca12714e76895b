"""Services die at random moments, again and again, and come back."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final

from tests.faults.forked import START_SECONDS, Service

# So often a service dies once more while it starts, at some moment of it.
_DIES_STARTING: Final = 0.15
_STARTING_SECONDS: Final = 0.4
_POLL_SECONDS: Final = 0.03


@dataclass(frozen=True)
class Kill:
    """A process that was killed by signal 9: which, and when, by both clocks."""

    module: str
    at: float
    time: datetime


class Killer:
    """Kills one service at random, in a thread of its own, as long as `goes_on` says."""

    def __init__(
        self,
        service: Service,
        *,
        random: Random,
        goes_on: Callable[[Sequence[Kill]], bool],
        pause_seconds: tuple[float, float],
    ) -> None:
        self.kills: list[Kill] = []
        self.problem = ""
        self._service = service
        self._random = random
        self._goes_on = goes_on
        self._pause_seconds = pause_seconds
        self._thread = threading.Thread(target=self._run, name=f"killer of {service.module}")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until it has ended; the service runs, unless there is a problem."""
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._goes_on(self.kills):
                time.sleep(self._random.uniform(*self._pause_seconds))
                self._kill()
                self._bring_back()
        except Exception as problem:  # noqa: BLE001 - it is reported, whatever it is
            self.problem = f"{type(problem).__name__}: {problem}"

    def _kill(self) -> None:
        kill = Kill(self._service.module, time.monotonic(), datetime.now(UTC))
        # A service that serves ends by nothing but this.
        self._service.kill()
        self.kills.append(kill)

    def _bring_back(self) -> None:
        """Start it as a supervisor does, again if it ends because its database is away."""
        give_up_at = time.monotonic() + START_SECONDS
        self._service.start()
        if self._random.random() < _DIES_STARTING:
            time.sleep(self._random.uniform(0, _STARTING_SECONDS))
            kill = Kill(self._service.module, time.monotonic(), datetime.now(UTC))
            if self._service.end() == -signal.SIGKILL:
                self.kills.append(kill)
            self._service.start()
        while not self._service.is_serving():
            tail = self._service.log_tail
            assert time.monotonic() < give_up_at, f"{self._service.module} is away:\n{tail()}"
            if self._service.status is not None:
                self._service.start()
            time.sleep(_POLL_SECONDS)

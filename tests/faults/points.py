"""Something happens at a named point, in this process, to the request that has come so far."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.faults.kill_points import watched

# Longer than anything here waits for; a request that was forgotten ends all the same.
_PAUSE_SECONDS_MAX: Final = 20.0


class Points:
    """What is to happen where, and to the request of which trace: once, to the first."""

    def __init__(self) -> None:
        self._plans: dict[tuple[str, str], Callable[[], None]] = {}

    def at(self, point: str, trace_id: str, happens: Callable[[], None]) -> None:
        """Have it happen in the thread that reaches the point first."""
        self._plans[point, trace_id] = happens

    def reach(self, point: str, trace_id: str) -> None:
        """Let happen what is planned."""
        if happens := self._plans.pop((point, trace_id), None):
            happens()


class Pause:
    """Whoever is here waits until the test says go."""

    def __init__(self) -> None:
        self._is_reached = threading.Event()
        self._is_over = threading.Event()
        self._was_in_vain = False

    def __call__(self) -> None:
        """Wait."""
        self._is_reached.set()
        self._was_in_vain = not self._is_over.wait(_PAUSE_SECONDS_MAX)

    def end(self) -> None:
        """Let the one who waits go on, who must not have gone on before."""
        self._is_over.set()
        assert not self._was_in_vain, "what it was to wait for did not happen"

    def is_reached(self, within_seconds: float = 0.0) -> bool:
        """Say whether somebody is or was here, or comes within this time."""
        return self._is_reached.wait(within_seconds)


@contextmanager
def points_around_the_services() -> Iterator[Points]:
    """Put the points around all services of this process, for the block."""
    points = Points()
    with watched(points.reach):
        yield points

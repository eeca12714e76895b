"""A clock that a test can move."""

from datetime import datetime, timedelta
from itertools import count

from service_kit.clock import SystemClock


class MovableClock:
    """Runs like the machine's clock, as far ahead of it as it was moved."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the moment it is by this clock."""
        return self._system.now() + self._ahead

    def move(self, by: timedelta) -> None:
        """Move it, backwards by a negative amount."""
        self._ahead += by


class StandingClock(MovableClock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self._began = super().now()

    def now(self) -> datetime:
        """Return the moment it was moved to."""
        return self._began + self._ahead


class CreepingClock(StandingClock):
    """Stands nearly still until it is moved: no moment is told twice, as none comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self._told = count()

    def now(self) -> datetime:
        """Return the moment it was moved to, and a microsecond more each time."""
        return super().now() + timedelta(microseconds=next(self._told))

"""The time, as something that can be passed in."""

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

# How far apart two replicas may believe to be, and two looks at one clock around a wait are.
CLOCK_SKEW_MAX: Final = timedelta(seconds=5)


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return this moment, aware and in UTC."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return this moment, aware and in UTC."""
        return datetime.now(UTC)

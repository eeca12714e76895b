"""The time, as something that can be passed in."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return this moment, aware and in UTC."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return this moment, aware and in UTC."""
        return datetime.now(UTC)

"""When work that was in vain is tried again: soon at first, later and later, never much later."""

from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from service_kit.clock import CLOCK_SKEW_MAX

RETRY_MIN: Final = timedelta(seconds=1)
RETRY_MAX: Final = timedelta(seconds=10)
# Most troubles are over by then.
_SOON: Final = 6
# More changes nothing, and the number of attempts has no bound.
_DOUBLED_MAX: Final = 4


def next_try(attempts: int, now: datetime) -> datetime:
    """Say when to try again after so many attempts in vain."""
    doubled = min(max(attempts - _SOON, 0), _DOUBLED_MAX)
    return now + min(RETRY_MIN * (1 << doubled), RETRY_MAX)


def is_due(due_at: sa.Column[Any], now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition that a row is due; without a time it always is."""
    # A time further ahead than the longest wait was written by a clock that has been set back.
    forgotten = due_at > now + RETRY_MAX + CLOCK_SKEW_MAX
    return sa.or_(due_at.is_(None), due_at <= now, forgotten)


def one_less(attempts: sa.Column[int]) -> sa.ColumnElement[int]:
    """Return the number of attempts without the last one, which does not count."""
    return sa.case((attempts > 0, attempts - 1), else_=0)

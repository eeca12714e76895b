"""How long the gateway may be waited for, and who is asking it at the moment."""

from datetime import datetime, timedelta
from typing import Final

from payment_service.application.ports import Deadline
from service_kit.clock import CLOCK_SKEW_MAX
from service_kit.errors import DeadlineTooShort

# What is kept of the caller's time to write the outcome down and send the reply.
RESERVE_SECONDS: Final = 0.3
GATEWAY_SECONDS_MAX: Final = 7.0
# A gateway given less than this could only be asked in vain.
GATEWAY_SECONDS_MIN: Final = 0.2

# Whoever asks may take this much longer to write the answer down.
_OVERTIME_SECONDS: Final = 1.0
LEASE_MAX: Final = timedelta(seconds=GATEWAY_SECONDS_MAX + _OVERTIME_SECONDS)


def gateway_seconds(deadline: Deadline) -> float:
    """Say how long the gateway may take; less than the minimum means: do not ask."""
    return min(deadline.remaining_seconds() - RESERVE_SECONDS, GATEWAY_SECONDS_MAX)


def require_gateway_time(deadline: Deadline) -> None:
    """Raise DeadlineTooShort unless there is time to ask the gateway."""
    if gateway_seconds(deadline) < GATEWAY_SECONDS_MIN:
        raise DeadlineTooShort(minimum_seconds=RESERVE_SECONDS + GATEWAY_SECONDS_MIN)


def lease_of(deadline: Deadline) -> timedelta:
    """Say how long nobody else should ask: as long as this call can."""
    return timedelta(seconds=max(gateway_seconds(deadline), 0.0) + _OVERTIME_SECONDS)


def is_leased(lease_until: datetime | None, now: datetime) -> bool:
    """Say whether somebody is asking the gateway and must not be disturbed."""
    # A lease much further ahead than its maximum was written by a clock that has since been set
    # back; a little further, by a replica whose clock is ahead of ours.
    return lease_until is not None and now < lease_until <= now + LEASE_MAX + CLOCK_SKEW_MAX

"""How long the gateway may be waited for, and when it is not asked at all."""

from datetime import UTC, datetime, timedelta

import pytest

from payment_service.application.gateway_time import (
    LEASE_MAX,
    gateway_seconds,
    is_leased,
    lease_of,
    require_gateway_time,
)
from service_kit.clock import CLOCK_SKEW_MAX
from service_kit.errors import DeadlineTooShort

NOW = datetime(2026, 11, 22, tzinfo=UTC)
TICK = timedelta(microseconds=1)


class Remaining:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def remaining_seconds(self) -> float:
        return self._seconds


@pytest.mark.parametrize(
    ("remaining", "seconds"), [(30, 7.0), (7.4, 7.0), (7.3, 7.0), (5, 4.7), (0.5, 0.2), (0, -0.3)]
)
def test_the_gateway_gets_what_is_left_and_at_most_seven_seconds(
    remaining: float, seconds: float
) -> None:
    assert gateway_seconds(Remaining(remaining)) == pytest.approx(seconds)


@pytest.mark.parametrize("remaining", [0.49, 0.1, -1])
def test_too_little_time_is_refused(remaining: float) -> None:
    with pytest.raises(DeadlineTooShort) as refusal:
        require_gateway_time(Remaining(remaining))
    assert refusal.value.minimum_seconds == 0.5


def test_enough_time_is_not() -> None:
    require_gateway_time(Remaining(0.51))


@pytest.mark.parametrize(
    ("lease_until", "leased"),
    [
        (None, False),
        (NOW, False),
        (NOW - TICK, False),
        (NOW + TICK, True),
        (NOW + LEASE_MAX, True),
        # Further ahead than a lease is long: the clock has been set back.
        (NOW + LEASE_MAX + CLOCK_SKEW_MAX, True),
        (NOW + LEASE_MAX + CLOCK_SKEW_MAX + TICK, False),
    ],
)
def test_a_lease_counts_while_it_can_be_true(lease_until: datetime | None, leased: bool) -> None:  # noqa: FBT001
    assert is_leased(lease_until, NOW) is leased


@pytest.mark.parametrize(("remaining", "seconds"), [(30, 8.0), (2.3, 3.0), (0.1, 1.0), (-5, 1.0)])
def test_a_lease_lasts_a_second_longer_than_the_gateway_may_take(
    remaining: float, seconds: float
) -> None:
    lease = lease_of(Remaining(remaining))

    assert lease.total_seconds() == pytest.approx(seconds)
    assert lease <= LEASE_MAX

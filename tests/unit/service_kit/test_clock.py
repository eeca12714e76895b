"""The system's clock."""

from datetime import UTC, datetime, timedelta

from service_kit.clock import Clock, SystemClock


def test_tells_this_moment_in_utc() -> None:
    clock: Clock = SystemClock()
    now = clock.now()
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)

"""Soon at first, later and later, never much later."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from service_kit.clock import CLOCK_SKEW_MAX
from service_kit.database import UtcDateTime
from service_kit.due import RETRY_MAX, is_due, next_try

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class TestNextTry:
    @pytest.mark.parametrize(
        ("attempts", "seconds"),
        [(0, 1), (1, 1), (6, 1), (7, 2), (8, 4), (9, 8), (10, 10), (10**6, 10)],
    )
    def test_waits_a_second_six_times_then_twice_as_long_each_time_and_ten_seconds_at_most(
        self, attempts: int, seconds: int
    ) -> None:
        assert next_try(attempts, NOW) == NOW + seconds * SECOND


class TestIsDue:
    @pytest.mark.parametrize(
        ("due_at", "expected"),
        [
            (None, True),
            (NOW - SECOND, True),
            (NOW, True),
            (NOW + SECOND, False),
            (NOW + RETRY_MAX + CLOCK_SKEW_MAX, False),
            # Nobody waits so long: the clock that wrote it has been set back.
            (NOW + RETRY_MAX + CLOCK_SKEW_MAX + SECOND, True),
        ],
    )
    def test_is_when_its_time_has_come_or_cannot_be_meant(
        self, due_at: datetime | None, *, expected: bool
    ) -> None:
        table = sa.Table("work", sa.MetaData(), sa.Column("due_at", UtcDateTime))
        engine = sa.create_engine("sqlite://")
        with engine.begin() as connection:
            table.create(connection)
            connection.execute(sa.insert(table), {"due_at": due_at})
            found = connection.execute(sa.select(table).where(is_due(table.c.due_at, NOW))).all()
        engine.dispose()
        assert bool(found) is expected

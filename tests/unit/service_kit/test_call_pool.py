"""The threads of calls know since when they have had nothing to do."""

import threading

import pytest

from service_kit.call_pool import CallPool
from tests.unit.service_kit.echo import eventually


@pytest.fixture
def pool() -> CallPool:
    return CallPool(1, thread_name_prefix="call")


class TestACallPool:
    def test_is_idle_from_its_beginning(self, pool: CallPool) -> None:
        assert eventually(lambda: pool.idle_seconds() > 0.05)

    def test_is_not_idle_while_a_call_runs_or_waits_for_a_thread(self, pool: CallPool) -> None:
        first, second = threading.Event(), threading.Event()
        calls = [pool.submit(first.wait, 10), pool.submit(second.wait, 10)]
        assert pool.idle_seconds() == 0
        first.set()
        calls[0].result(10)
        assert pool.idle_seconds() == 0
        second.set()
        assert eventually(lambda: pool.idle_seconds() > 0)

    def test_is_idle_after_a_call_that_failed(self, pool: CallPool) -> None:
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result(10)
        assert eventually(lambda: pool.idle_seconds() > 0)

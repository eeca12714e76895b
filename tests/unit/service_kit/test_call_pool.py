"""The threads of calls: as many as there are calls, and they know since when there is none."""

import sys
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from operator import contains

import pytest

from service_kit.call_pool import CallPool
from tests.unit.service_kit.echo import eventually

# With those that refuse.
THREADS = 3


@pytest.fixture
def pool() -> Iterator[CallPool]:
    with CallPool(THREADS - 2, thread_name_prefix="call") as pool:
        yield pool


class Held:
    """Calls that go on until they are let go."""

    def __init__(self, pool: CallPool, count: int) -> None:
        self.running: list[str] = []
        self.over: list[int] = []
        self._ends = [threading.Event() for _ in range(count)]
        for place in range(count):
            pool.submit(self._call, place)

    def let_go(self, place: int) -> None:
        self._ends[place].set()

    def _call(self, place: int) -> None:
        self.running.append(threading.current_thread().name)
        self._ends[place].wait(10)
        self.over.append(place)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What threads tell of exceptions that nobody caught."""
    errors: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: errors.append(told.exc_value))
    return errors


def divide_by_zero() -> None:
    raise ZeroDivisionError


class TestACallPool:
    def test_is_idle_from_its_beginning(self, pool: CallPool) -> None:
        assert eventually(lambda: pool.idle_seconds() > 0.05)

    def test_is_not_idle_while_a_call_runs_or_waits_for_a_thread(self, pool: CallPool) -> None:
        calls = Held(pool, THREADS + 1)
        for place in range(THREADS + 1):
            assert pool.idle_seconds() == 0
            calls.let_go(place)
            assert eventually(partial(contains, calls.over, place))
        assert eventually(lambda: pool.idle_seconds() > 0)

    def test_is_idle_after_a_call_that_failed(
        self, pool: CallPool, told: list[BaseException | None]
    ) -> None:
        pool.submit(divide_by_zero)
        assert eventually(lambda: bool(told) and pool.idle_seconds() > 0)
        assert isinstance(told[0], ZeroDivisionError)

    def test_serves_others_after_calls_that_failed(
        self, pool: CallPool, told: list[BaseException | None]
    ) -> None:
        for fail in (divide_by_zero, sys.exit) * THREADS:
            pool.submit(fail)
        assert eventually(lambda: len(told) == 2 * THREADS)
        calls = Held(pool, THREADS)
        assert eventually(lambda: len(calls.running) == THREADS)
        for place in range(THREADS):
            calls.let_go(place)

    def test_has_a_thread_for_each_call_and_none_beyond(self, pool: CallPool) -> None:
        calls = Held(pool, THREADS + 2)
        assert eventually(lambda: len(calls.running) == THREADS)
        assert len(set(calls.running)) == THREADS
        calls.let_go(0)
        assert eventually(lambda: len(calls.running) == THREADS + 1)
        assert len(set(calls.running)) == THREADS
        for place in range(THREADS + 2):
            calls.let_go(place)

    def test_starts_no_thread_while_another_one_waits(self, pool: CallPool) -> None:
        names = set()
        for _ in range(5):
            call = Held(pool, 1)
            call.let_go(0)
            assert eventually(partial(contains, call.over, 0))
            assert eventually(lambda: pool.idle_seconds() > 0.05)
            names.add(call.running[0])
        assert len(names) == 1

    def test_keeps_nothing_of_a_call_that_is_over(self, pool: CallPool) -> None:
        call = Held(pool, 1)
        gone = weakref.ref(call)
        call.let_go(0)
        del call
        assert eventually(lambda: gone() is None)


class TestTheShutdown:
    def test_serves_what_waits(self, pool: CallPool) -> None:
        calls = Held(pool, THREADS + 1)
        pool.shutdown()
        for place in range(THREADS + 1):
            calls.let_go(place)
        assert eventually(lambda: len(calls.over) == THREADS + 1)

    def test_can_be_told_not_to(self, pool: CallPool) -> None:
        calls = Held(pool, THREADS + 1)
        assert eventually(lambda: len(calls.running) == THREADS)
        pool.shutdown(cancel_futures=True)
        for place in range(THREADS + 1):
            calls.let_go(place)
        assert eventually(lambda: pool.idle_seconds() > 0)
        assert THREADS not in calls.over

    def test_lets_all_threads_go(self, pool: CallPool) -> None:
        calls = Held(pool, THREADS)
        assert eventually(lambda: len(calls.running) == THREADS)
        for place in range(THREADS):
            calls.let_go(place)
        pool.shutdown()
        names = set(calls.running)
        assert eventually(lambda: not names & {thread.name for thread in threading.enumerate()})

    def test_refuses_calls(self, pool: CallPool) -> None:
        pool.shutdown()
        with pytest.raises(RuntimeError):
            pool.submit(divide_by_zero)

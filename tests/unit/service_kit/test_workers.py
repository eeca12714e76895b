"""Work that nobody waits for goes on, whatever happens to a piece of it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from service_kit import workers
from service_kit.errors import ConcurrentUpdate, StorageUnavailable
from service_kit.workers import Task, Workers
from tests.captured_log import CapturedLog

Seen = list[tuple[str, type[Exception] | None]]


class Worker:
    """Runs a task and waits for what it does."""

    def __init__(self) -> None:
        self.seen: Seen = []
        self._told = threading.Condition()

    def observe(self, name: str, error: Exception | None) -> None:
        with self._told:
            self.seen.append((name, type(error) if error else None))
            self._told.notify_all()

    def wait_for(self, runs: int) -> Seen:
        with self._told:
            assert self._told.wait_for(lambda: len(self.seen) >= runs, 20)
            return self.seen[:runs]

    @contextmanager
    def running(
        self, run: Callable[[], bool], *, threads: int = 1, pause_seconds: float = 0.001
    ) -> Iterator[Workers]:
        task = Task("sweep", run, threads=threads, pause_seconds=pause_seconds)
        workers = Workers([task], observe=self.observe)
        workers.start()
        try:
            yield workers
        finally:
            workers.stop(20)


@pytest.fixture
def worker() -> Worker:
    return Worker()


class TestWorkers:
    def test_repeat_a_task_without_a_pause_while_there_is_more(self, worker: Worker) -> None:
        left = iter([True] * 50)
        # After the last piece the pause is longer than the test.
        with worker.running(lambda: next(left, False), pause_seconds=3600):
            assert worker.wait_for(51) == [("sweep", None)] * 51

    def test_pause_when_there_is_nothing_to_do(self, worker: Worker) -> None:
        with worker.running(lambda: False, pause_seconds=3600):
            worker.wait_for(1)
            time.sleep(0.05)
            assert len(worker.seen) == 1

    @pytest.mark.parametrize("error", [StorageUnavailable(), ConcurrentUpdate(attempts=5)])
    def test_go_on_after_a_lost_database_or_race(
        self, worker: Worker, log: CapturedLog, error: Exception
    ) -> None:
        def fail() -> bool:
            raise error

        with worker.running(fail):
            assert worker.wait_for(3) == [("sweep", type(error))] * 3
        assert log.lines("worker.interrupted")[0]["worker"] == "sweep"

    def test_go_on_after_a_bug_and_log_where_it_was(self, worker: Worker, log: CapturedLog) -> None:
        def fail() -> bool:
            raise ZeroDivisionError

        with worker.running(fail):
            assert worker.wait_for(3) == [("sweep", ZeroDivisionError)] * 3
        assert "ZeroDivisionError" in str(log.lines("worker.failed")[0])

    def test_go_on_after_more_failures_than_a_pause_can_be_doubled(
        self, worker: Worker, log: CapturedLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workers, "_BACKOFF_SECONDS_MAX", 0.0)

        def fail() -> bool:
            raise ZeroDivisionError

        with worker.running(fail):
            worker.wait_for(1100)
        assert len(log.lines("worker.failed")) >= 1100

    def test_run_a_task_on_as_many_threads_as_it_asks_for(self, worker: Worker) -> None:
        together = threading.Barrier(3)

        def meet() -> bool:
            together.wait(20)
            return False

        with worker.running(meet, threads=3, pause_seconds=3600):
            assert worker.wait_for(3) == [("sweep", None)] * 3

    def test_stop_after_the_piece_that_has_begun(self, worker: Worker) -> None:
        begun, may_end = threading.Event(), threading.Event()

        def slow() -> bool:
            begun.set()
            assert may_end.wait(20)
            return True

        with worker.running(slow) as workers:
            assert begun.wait(20)
            stopping = threading.Thread(target=workers.stop, args=(20,))
            stopping.start()
            may_end.set()
            stopping.join(20)
            assert worker.seen == [("sweep", None)]

    def test_leave_a_piece_that_does_not_end_in_time(self, worker: Worker) -> None:
        begun, may_end = threading.Event(), threading.Event()

        def stuck() -> bool:
            begun.set()
            return may_end.wait(20)

        with worker.running(stuck) as workers:
            assert begun.wait(20)
            workers.stop(0.01)
            assert worker.seen == []
            may_end.set()

    def test_can_be_stopped_before_they_were_started(self) -> None:
        Workers([Task("sweep", lambda: False)]).stop(1)

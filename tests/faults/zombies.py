"""Two of each service on the same databases, of which one stops until it is taken over."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

from tests.faults.aftermath import check_aftermath, settled
from tests.faults.clients import Client
from tests.faults.cluster import Cluster
from tests.faults.figures import Figures
from tests.faults.forked import Service
from tests.faults.history import Answered, History
from tests.faults.killing import new_key
from tests.faults.scenarios import Scenario
from tests.faults.truth import read_truth

# Money given back is no charge; what is cancelled in time has none.
_CHARGES_MAX: Final = 1
_STOPS_WITHIN_SECONDS: Final = 20.0
_ENDS_WITHIN_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02

# Makes sure that there is something to do in the background.
Provoke = Callable[[], object]


class Work(NamedTuple):
    """A piece of background work: where it is stopped, and where it has come to its end."""

    stop: str
    end: str


class Zombies:
    """Stops the first of each service somewhere, and lets it go on when it is too late."""

    def __init__(self, cluster: Cluster, figures: Figures) -> None:
        self.cluster = cluster
        self.history = History()
        self.client = Client(*cluster.channels(), self.history)
        self._other_client = Client(*cluster.channels(1), self.history)
        self._figures = figures
        self._pool = ThreadPoolExecutor(32)
        self._sending: list[Future[Any]] = []

    def stop_during(self, scenario: Scenario, point: str) -> None:
        """Stop the zombie while it serves a request that the other one then answers."""
        zombie = self.cluster.service(scenario.victim)
        request = scenario.prepare(self.client, new_key(scenario.name, point))
        sent = partial(self.client.once, request)
        with self._stopped(zombie, point, sent, trace_id=request.trace_id):
            # Its lease has to be over before anybody else may answer this.
            call = self._other_client.insist(request)
            assert not zombie.has_logged(request.trace_id)
        self._wait_for_end_of_call(zombie, request.trace_id)
        # It knows by now that the answer is somebody else's, and gives the same one.
        again = self.client.insist(request)
        assert _told(again.outcome) == _told(call.outcome)
        truth = read_truth(self.cluster.books.order_database, self.cluster.books.ledger)
        assert len(truth.charges_of(request.order_id)) <= _CHARGES_MAX
        self._figures.add("zombies")

    def stop_at_work(self, module: str, work: Work, provoke: Callable[[Client], Provoke]) -> None:
        """Stop the zombie in the middle of its background work, until the other one has done it."""
        zombie, other = self.cluster.service(module), self._other(module)
        # Alone, the zombie is who does it.
        other.kill()
        provoked = provoke(self.client)
        with self._stopped(zombie, work.stop, provoked):
            other.start()
            other.wait_until_serving()
            assert settled(self.cluster.books) == []
            zombie.orders.stop_at(work.end)
        try:
            zombie.wait_until_stopped_at(work.end, _ENDS_WITHIN_SECONDS)
        finally:
            zombie.thaw()
        self._figures.add("zombies")

    def check(self) -> None:
        """Wait for all clients, and compare what everybody says."""
        for sent in self._sending:
            sent.result()
        self._pool.shutdown()
        check_aftermath(self.cluster.books, self.history.calls, self._figures)

    def _other(self, module: str) -> Service:
        is_order = module == self.cluster.order.module
        return (self.cluster.orders if is_order else self.cluster.payments)[1]

    @contextmanager
    def _stopped(
        self, zombie: Service, point: str, sent: Provoke, *, trace_id: str = ""
    ) -> Iterator[None]:
        """Have the zombie stand still at the point, which it reaches when something is sent."""
        zombie.orders.stop_at(point, trace_id=trace_id)
        self._sending.append(self._pool.submit(sent))
        try:
            zombie.wait_until_stopped_at(point, _STOPS_WITHIN_SECONDS)
            yield
        finally:
            zombie.thaw()

    def _wait_for_end_of_call(self, zombie: Service, trace_id: str) -> None:
        give_up_at = time.monotonic() + _ENDS_WITHIN_SECONDS
        while not zombie.has_logged(trace_id):
            assert time.monotonic() < give_up_at, f"the call does not end:\n{zombie.log_tail()}"
            time.sleep(_POLL_SECONDS)


def _told(outcome: Any) -> Any:
    # The same bytes; only one of them is a repeat.
    return outcome.reply if isinstance(outcome, Answered) else (outcome.reason, outcome.reply)

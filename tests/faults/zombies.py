"""Two of each service on the same databases, of which one stops until it is taken over."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

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
        zombie.orders.stop_at(point, trace_id=request.trace_id)
        self._sending.append(self._pool.submit(self.client.once, request))
        zombie.wait_until_stopped_at(point, _STOPS_WITHIN_SECONDS)
        # Its lease has to be over before anybody else may answer this.
        call = self._other_client.insist(request)
        assert not zombie.has_logged(request.trace_id)
        zombie.thaw()
        self._wait_for_end_of_call(zombie, request.trace_id)
        # It knows by now that the answer is somebody else's, and gives the same one.
        again = self.client.insist(request)
        assert _told(again.outcome) == _told(call.outcome)
        self._count(request.order_id)

    def stop_at_work(self, module: str, point: str, provoke: Callable[[Client], Provoke]) -> None:
        """Stop the zombie in the middle of its background work, until the other one has done it."""
        zombie, other = self.cluster.service(module), self._other(module)
        other.kill()
        provoked = provoke(self.client)
        # Told before there is anything to do.
        zombie.orders.stop_at(point)
        self._sending.append(self._pool.submit(provoked))
        zombie.wait_until_stopped_at(point, _STOPS_WITHIN_SECONDS)
        other.start()
        other.wait_until_serving()
        assert settled(self.cluster.books) == []
        zombie.thaw()
        # It does something else alone then, and so has ended this before.
        other.kill()
        provoke(self.client)()
        assert settled(self.cluster.books) == []
        other.start()
        other.wait_until_serving()
        self._count()

    def check(self) -> None:
        """Wait for all clients, and compare what everybody says."""
        for sent in self._sending:
            sent.result()
        self._pool.shutdown()
        check_aftermath(self.cluster.books, self.history.calls, self._figures)

    def _other(self, module: str) -> Service:
        is_order = module == self.cluster.order.module
        return (self.cluster.orders if is_order else self.cluster.payments)[1]

    def _wait_for_end_of_call(self, zombie: Service, trace_id: str) -> None:
        give_up_at = time.monotonic() + _ENDS_WITHIN_SECONDS
        while not zombie.has_logged(trace_id):
            assert time.monotonic() < give_up_at, f"the call does not end:\n{zombie.log_tail()}"
            time.sleep(_POLL_SECONDS)

    def _count(self, order_id: str = "") -> None:
        self._figures.add("zombies")
        truth = read_truth(self.cluster.books.order_database, self.cluster.books.ledger)
        assert len(truth.charges_of(order_id)) <= _CHARGES_MAX


def _told(outcome: Any) -> Any:
    # The same bytes; only one of them is a repeat.
    return outcome.reply if isinstance(outcome, Answered) else (outcome.reason, outcome.reply)

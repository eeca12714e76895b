"""A cluster in which one process at a time is told where to die."""

import secrets
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from tests.faults.aftermath import check_aftermath
from tests.faults.clients import Client, is_transient
from tests.faults.cluster import Cluster
from tests.faults.figures import Figures
from tests.faults.forked import Service
from tests.faults.history import Call, History, Request
from tests.faults.scenarios import Scenario

# A worker looks for work every second; what it settles has been in flight for five.
_DIES_WITHIN_SECONDS: Final = 20.0
# How long it may take to see that a process has died.
_NOTICED_SECONDS: Final = 0.05

Provoke = Callable[[], object]


class Killing:
    """Kills at named points, and makes sure that nothing comes of it."""

    def __init__(self, cluster: Cluster, figures: Figures) -> None:
        self.cluster = cluster
        self.history = History()
        self.client = Client(*cluster.channels(), self.history)
        self._figures = figures
        self._pool = ThreadPoolExecutor(32)
        self._sending: list[Future[Any]] = []

    def kill_during(self, scenario: Scenario, point: str, *, returns: bool) -> None:
        """Kill the victim while it serves the request, and start it again."""
        victim = self.cluster.service(scenario.victim)
        request = scenario.prepare(self.client, new_key(scenario.name, point))
        victim.orders.die_at(point, trace_id=request.trace_id)
        is_dead = threading.Event()
        # Not waited for: the victim is back before the client has noticed.
        if returns:
            self._sending.append(self._pool.submit(self.client.insist, request))
        else:
            self._sending.append(self._pool.submit(self._send_until, is_dead, request))
        self._expect_death(victim, point)
        is_dead.set()
        victim.start()
        victim.wait_until_serving()

    def kill_at_work(self, module: str, points: Mapping[str, Provoke]) -> None:
        """Kill the victim at one point after the other of what it does in the background.

        To each point belongs what makes sure that there is something to do.
        """
        victim = self.cluster.service(module)
        victim.kill()
        for point, provoke in points.items():
            # Told before it starts: it works from its first moment on.
            victim.orders.die_at(point)
            victim.start()
            self._sending.append(self._pool.submit(provoke))
            self._expect_death(victim, point)
        victim.start()
        victim.wait_until_serving()

    def check(self) -> None:
        """Wait for all clients, and compare what everybody says."""
        for sent in self._sending:
            sent.result()
        self._pool.shutdown()
        check_aftermath(self.cluster.books, self.history.calls, self._figures)

    def _expect_death(self, victim: Service, point: str) -> None:
        try:
            status = victim.wait_for_end(_DIES_WITHIN_SECONDS)
        except AssertionError as error:
            error.add_note(f"never reached {point}")
            raise
        assert status == -signal.SIGKILL, victim.log_tail()
        assert victim.orders.obeyed_at == point
        self._figures.add("kills, named points")

    def _send_until(self, is_dead: threading.Event, request: Request) -> Call:
        # What does not get as far as the victim is sent again; what killed it is not.
        while True:
            call = self.client.once(request)
            if not is_transient(call) or is_dead.wait(_NOTICED_SECONDS):
                return call


def new_key(name: str, point: str) -> str:
    """Make a key that tells in a report what it was used for."""
    return f"{name}-{point.replace('.', '-')}-{secrets.token_hex(3)}x"

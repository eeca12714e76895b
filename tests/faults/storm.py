"""Clients, killers and whatever else goes wrong, all at once, and a look at what is left."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from tests.faults.aftermath import Aftermath, look_at_aftermath
from tests.faults.clients import Client
from tests.faults.cluster import Cluster
from tests.faults.crowd import Crowd
from tests.faults.figures import Figures
from tests.faults.history import History
from tests.faults.killer import Kill, Killer
from tests.faults.outages import Outages
from tests.faults.recovery import recoveries

# The gateway's late answers are late enough to be met by a kill.
SETTINGS: Final = {"PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS": "0.5"}
_POLL_SECONDS: Final = 0.2


class Storm:
    """A crowd of shoppers in a cluster whose two services are killed at random.

    `goes_on` is asked by the killer of each service, with its kills, whether it goes on.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        random: Random,
        shoppers: int,
        pause_seconds: tuple[float, float],
        goes_on: Callable[[Sequence[Kill]], bool],
    ) -> None:
        self.history = History()
        self._cluster = cluster
        self._crowd = Crowd(cluster, self.history, random=random, size=shoppers)
        self._killers = [
            Killer(
                service,
                random=Random(random.random()),  # noqa: S311 - it must be repeatable
                goes_on=goes_on,
                pause_seconds=pause_seconds,
            )
            for service in (cluster.order, cluster.payment)
        ]

    @property
    def kills(self) -> list[Kill]:
        """All processes that have been killed so far."""
        return [kill for killer in self._killers for kill in list(killer.kills)]

    @property
    def checkouts(self) -> int:
        """How many checkouts have been gone through so far."""
        return self._crowd.checkouts

    @property
    def problems(self) -> list[str]:
        """What no client should have met, and what did not come back."""
        away = [killer.problem for killer in self._killers if killer.problem]
        return [*self._crowd.problems, *away]

    def start(self) -> None:
        """Break loose."""
        self._crowd.start()
        for killer in self._killers:
            killer.start()

    def is_over(self) -> bool:
        """Say whether nobody is killed any more."""
        return not any(killer.is_alive for killer in self._killers)

    def end(self) -> None:
        """Wait for the killers to go, and for the shoppers to finish."""
        for killer in self._killers:
            killer.wait()
        client = Client(*self._cluster.channels(), self.history)
        # Both have to answer once more after the last kill.
        client.pay_directly(client.place())
        self._crowd.stop()

    def look(self, figures: Figures) -> Aftermath:
        """Wait until all is settled, compare all sources, and note the figures."""
        books, calls = self._cluster.books, self.history.calls
        aftermath = look_at_aftermath(books, calls, figures)
        figures.add("kills, random", len(self.kills))
        figures.add("checkouts", self.checkouts)
        for recovery in recoveries(self.kills, calls, books):
            figures.observe("first answer after a kill", recovery.first_answer)
            figures.observe("recovery after a kill", recovery.all_over)
        return replace(aftermath, problems=[*self.problems, *aftermath.problems])


def sit_out(
    storm: Storm,
    figures: Figures,
    *,
    outages: Outages | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Aftermath:
    """Let the storm rage until it is over by itself, and look at what is left.

    `outages` is what else happens until then; `meanwhile` is done again and again.
    """
    storm.start()
    if outages:
        outages.start()
    while not storm.is_over():
        time.sleep(_POLL_SECONDS)
        if meanwhile:
            meanwhile()
    if outages:
        outages.stop()
    storm.end()
    aftermath = storm.look(figures)
    if not outages:
        return aftermath
    figures.add("restarts of PostgreSQL", outages.restarts)
    found = [outages.problem] if outages.problem else []
    return replace(aftermath, problems=[*found, *aftermath.problems])

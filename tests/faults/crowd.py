"""Many shoppers at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Final

from tests.faults.clients import Client
from tests.faults.cluster import Cluster
from tests.faults.history import History
from tests.faults.shopper import Shopper

# Many who wait must not keep the services from what they wait for.
_PAUSES_SECONDS: Final = (0.05, 0.5)
# While everything breaks nothing is promised to anybody: only afterwards nobody waits for long.
_PATIENCE_SECONDS: Final = 300.0
_PATIENCE_AFTERWARDS_SECONDS: Final = 90.0


class Crowd:
    """Shoppers, each in a thread of its own, from the beginning to the end of a run."""

    def __init__(self, cluster: Cluster, history: History, *, random: Random, size: int) -> None:
        self._client = Client(
            *cluster.channels(),
            history,
            pauses_seconds=_PAUSES_SECONDS,
            patience_seconds=_PATIENCE_SECONDS,
        )
        self._clicks = ThreadPoolExecutor(size)
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._checkouts = 0
        self._problems: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._shop, args=(random.random(),), name=f"shopper {number}")
            for number in range(size)
        ]

    @property
    def checkouts(self) -> int:
        """How many have been gone through so far."""
        with self._lock:
            return self._checkouts

    @property
    def problems(self) -> list[str]:
        """What no shopper should have met, or has waited for too long; it goes home then."""
        with self._lock:
            return [f"{type(problem).__name__}: {problem}" for problem in self._problems]

    def start(self) -> None:
        """Open the doors."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let everybody finish what they have begun, now that nothing breaks any more."""
        self._is_over.set()
        self._client.lose_patience_in(_PATIENCE_AFTERWARDS_SECONDS)
        for thread in self._threads:
            thread.join()
        self._clicks.shutdown()

    def _shop(self, seed: float) -> None:
        random = Random(seed)  # noqa: S311 - it must be repeatable
        shopper = Shopper(self._client, random, self._clicks)
        while not self._is_over.is_set():
            try:
                shopper.shop()
            except BaseException as problem:  # noqa: BLE001 - it is reported, whatever it is
                with self._lock:
                    self._problems.append(problem)
                return
            with self._lock:
                self._checkouts += 1

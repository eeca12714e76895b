"""PostgreSQL is broken off at random moments, again and again, and comes back."""

import threading
from random import Random
from typing import Final

from tests.servers.postgres import RestartablePostgres

PAUSE_SECONDS: Final = (1.0, 3.0)


class Outages:
    """Restarts a server, as after a crash, in a thread of its own, until it is stopped."""

    def __init__(self, server: RestartablePostgres, *, random: Random) -> None:
        self.restarts = 0
        self.problem = ""
        self._server = server
        self._random = random
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outages")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Let the server run from now on."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._is_over.wait(self._random.uniform(*PAUSE_SECONDS)):
                self._server.restart()
                self.restarts += 1
        except Exception as problem:  # noqa: BLE001 - it is reported, whatever it is
            self.problem = f"{type(problem).__name__}: {problem}"

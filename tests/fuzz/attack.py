"""An attack on a pair of services for so many seconds, and what must hold after it."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc

from deploy.connections import CHANNEL_OPTIONS
from deploy.processes import Pair, ServiceProcess
from tests.client import ORDER_SERVICE_NAME, PAYMENT_SERVICE_NAME
from tests.fuzz import http2
from tests.fuzz.fuzzer import Fuzzer
from tests.fuzz.known import Known
from tests.fuzz.targets import PLAIN, targets_of

# A service that is attacked may grow by this much: pools fill, and what a thread or a parser
# gave back does not always go back to the system.
GROWTH_MEGABYTES_MAX: Final = 48

PEER: Final = ("order_service",)
OTHERS: Final = ("customer", "service", "operations")

_WARM_CALLS: Final = 300
_LINES: Final = 8
_PAGE_MEGABYTES: Final = 4096 / 1024**2
# Told by our log and by grpc's.
_STUMBLES: Final = ("rpc.failed", "worker.failed", "Traceback")

_SETTINGS: Final = {
    "PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS": "0.1",
    **{
        f"{service}_CUSTOMER_{limit}": "0"
        for service in ("ORDER_SERVICE", "PAYMENT_SERVICE")
        for limit in ("RATE", "CALLS")
    },
}


class Attack:
    """Fuzzes both services. With the same seed and the same answers it sends the same."""

    def __init__(self, pair: Pair, *, seed: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.connections = 0
        self._pair = pair
        self._seed = seed
        self._known = Known()
        self._channels = [
            grpc.insecure_channel(process.address, options=CHANNEL_OPTIONS)
            for process in pair.processes
        ]
        self._calls = 0
        self._began_with: Sequence[float] = ()

    def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            channel.close()

    def calls(self, seconds: float, *, roles: Sequence[str]) -> None:
        """Make spoiled calls, one after the other, as callers of these roles. Raises NotClean."""
        fuzzers = [
            Fuzzer(
                channel,
                (*targets_of(service), *PLAIN),
                seed=self._seed,
                known=self._known,
                roles=roles,
            )
            for channel, service in zip(
                self._channels, (ORDER_SERVICE_NAME, PAYMENT_SERVICE_NAME), strict=True
            )
        ]
        ends_at = time.monotonic() + seconds
        warm_at = self._calls + _WARM_CALLS
        while time.monotonic() < ends_at or self._calls <= warm_at:
            if self._calls == warm_at:
                self._weigh()
            for fuzzer in fuzzers:
                fuzzer.run(self._calls)
            self._calls += 1
        for fuzzer in fuzzers:
            self.outcomes += fuzzer.outcomes

    def frames(self, seconds: float) -> None:
        """Send what is no call at all, on several connections at a time."""
        self._weigh()
        targets = (
            (self._pair.order.address, f"/{ORDER_SERVICE_NAME}/ListOrders"),
            (self._pair.payment.address, f"/{PAYMENT_SERVICE_NAME}/ListPayments"),
        )
        ends_at = time.monotonic() + seconds

        def send(line: int) -> int:
            sent = 0
            while time.monotonic() < ends_at:
                number = line + sent * _LINES
                address, method = targets[sent % len(targets)]
                http2.run(address, method, seed=self._seed, number=number)
                sent += 1
            return sent

        with ThreadPoolExecutor(_LINES) as threads:
            self.connections += sum(threads.map(send, range(_LINES)))

    def problems(self) -> list[str]:
        """List what the attack has done to the services. They must still serve."""
        found = []
        for process, before in zip(self._pair.processes, self._began_with, strict=True):
            process.wait_until_serving(10)
            growth = megabytes(process) - before
            if growth > GROWTH_MEGABYTES_MAX:
                found.append(f"{process.module} grew by {growth:.0f} MB, from {before:.0f}")
            found += [f"{process.module}: {line}" for line in _stumbles(process)]
        return found

    def verify(self) -> str:
        """Have the books of both services and of the gateway compared."""
        return self._pair.order.command("verify")

    def _weigh(self) -> None:
        self._began_with = self._began_with or [*map(megabytes, self._pair.processes)]


def megabytes(process: ServiceProcess) -> float:
    """Say how much memory a process has in use."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * _PAGE_MEGABYTES


def _stumbles(process: ServiceProcess) -> list[str]:
    lines = process.log().splitlines()
    return [line for line in lines if any(told in line for told in _STUMBLES)][:3]


@contextmanager
def attacked(folder: Path, *, seed: int) -> Iterator[Attack]:
    """Run both services over a folder, to be attacked."""
    pair = Pair(folder, _SETTINGS)
    try:
        pair.start()
        attack = Attack(pair, seed=seed)
        yield attack
        attack.close()
    finally:
        pair.stop()

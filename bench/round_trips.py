"""make bench-round-trips: how often a call waits for PostgreSQL, and in how many transactions.

Between the services and PostgreSQL stands a line that counts: each time it is waited for, the
server says ReadyForQuery, and whether a transaction is open (PostgreSQL, "Message Formats").
"""

import argparse
import sys
from typing import Final

from bench.results import keep
from bench.run import machine
from bench.subjects import Services, Stage, send
from bench.workloads import (
    CreateOrder,
    GetOrder,
    ListOrders,
    MarkOrderPaid,
    PayOrder,
    Workload,
    place,
    stock_for,
)
from tests.forwarder import Forwarder

_READY: Final = ord("Z")
_OUTSIDE: Final = ord("I")
_HEADER_BYTES: Final = 5
_CALLS: Final = 200
_KINDS: Final = (CreateOrder, GetOrder, ListOrders, MarkOrderPaid, PayOrder)


class CountingLine(Forwarder):
    """Passes bytes between clients and PostgreSQL, and counts what the server has got ready."""

    def __init__(self, server: str) -> None:
        super().__init__(server, lambda: _Counting(self))
        self.trips = self.transactions = 0

    def url(self, of: str) -> str:
        """Return the way to a database through this line."""
        # Encrypted, nothing could be counted; and the answer to whether it may be has no form.
        plain = {"sslmode": "disable", "gssencmode": "disable"}
        return self.way_to(of).update_query_dict(plain).render_as_string(hide_password=False)


class _Counting:
    """Reads what the server says over one connection: messages of a letter, a length and a body."""

    def __init__(self, line: CountingLine) -> None:
        self._line = line
        self._unread = b""

    def sent(self, data: bytes) -> None:
        """Count nothing: several messages may be one trip."""

    def answered(self, data: bytes) -> bool:
        """Count whole messages, and keep what is left."""
        data, start = self._unread + data, 0
        while len(data) >= start + _HEADER_BYTES:
            end = start + 1 + int.from_bytes(data[start + 1 : start + _HEADER_BYTES], "big")
            if len(data) < end:
                break
            if data[start] == _READY:
                self._line.trips += 1
                self._line.transactions += data[end - 1] == _OUTSIDE
            start = end
        self._unread = data[start:]
        return True


class _Counted(Services):
    """Both services, with the line before their databases."""

    def __init__(self, line: CountingLine) -> None:
        # What is done in the background would be counted too.
        idle = {f"{name}_SERVICE_BACKGROUND_WORK": "false" for name in ("ORDER", "PAYMENT")}
        super().__init__("counted", variables=idle)
        self._line = line

    def _migrate_postgres(self, stage: Stage, variables: dict[str, str]) -> None:
        super()._migrate_postgres(stage, variables)
        for name in ("ORDER", "PAYMENT"):
            key = f"{name}_SERVICE_DATABASE_URL"
            variables[key] = self._line.url(variables[key])


def main() -> int:
    """Make calls of each kind and print what one took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.parse_args()
    calls = {}
    print("| call | round trips | transactions |\n|---|--:|--:|")
    with Stage() as stage, CountingLine(stage.database()) as line:
        subject = _Counted(line)
        try:
            subject.start(stage)
            place(subject, 50)
            for kind in _KINDS:
                trips, transactions = _count(kind(), subject, line)
                calls[kind.__name__] = {"trips": trips, "transactions": transactions}
                print(f"| {kind.__name__} | {trips:.1f} | {transactions:.1f} |", flush=True)
        finally:
            subject.stop()
    keep("round-trips", {"machine": machine(), "calls": calls})
    return 0


def _count(workload: Workload, subject: Services, line: CountingLine) -> tuple[float, float]:
    """Return how often a call waits for PostgreSQL, and in how many transactions."""
    # Once before it counts: what is prepared at the first time is not prepared again.
    send(workload.load(subject, stock_for(workload, subject, 50), 50))
    load = workload.load(subject, stock_for(workload, subject, _CALLS), _CALLS)
    before = line.trips, line.transactions
    send(load)
    trips, transactions = line.trips - before[0], line.transactions - before[1]
    return trips / _CALLS, transactions / _CALLS


if __name__ == "__main__":
    sys.exit(main())

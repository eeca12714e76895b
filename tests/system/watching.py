"""Watching the order history: what a watcher has dealt with, and histories to watch."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import grpc
import sqlalchemy as sa

from checkout.order.v1 import order_audit_pb2
from service_kit.database import Database
from tests.captured_log import CapturedLog
from tests.checkout import Checkout
from tests.client import ORDER_SERVICE_NAME, SHOP, Client, Responses
from tests.system.simultaneously import outcome_of, reason_of
from tests.waiting import eventually

Entry = order_audit_pb2.OrderAuditEntry

COPIES: Final = """
INSERT INTO order_audit_entries
    (order_id, position, actor_role, actor_reference, at, event_type, from_status, to_status,
     outcome, reason, payment_id, trace_id, seal_version, seal)
WITH RECURSIVE copies(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < :count)
SELECT order_id, position + n, actor_role, actor_reference, at, event_type, from_status, to_status,
     outcome, reason, payment_id, trace_id, seal_version, seal
FROM copies, (SELECT * FROM order_audit_entries WHERE order_id = :order_id
              ORDER BY position DESC LIMIT 1) AS entry
"""


class Watcher:
    """Notes what it was sent, and where it would go on."""

    def __init__(self, *, after: int = 0) -> None:
        self.entries: list[Entry] = []
        self.heartbeats = 0
        self.resume_after = after

    def take(self, message: Any) -> None:
        """Deal with a message. What every stream promises is checked on the way."""
        assert message.resume_after_sequence >= self.resume_after
        if message.HasField("entry"):
            assert message.entry.sequence == message.resume_after_sequence > self.resume_after
            self.entries.append(message.entry)
        else:
            self.heartbeats += 1
        self.resume_after = message.resume_after_sequence

    def take_entries(self, stream: Responses, count: int) -> Sequence[Entry]:
        """Deal with messages until so many more entries have come, and return those."""
        wanted = len(self.entries) + count
        while len(self.entries) < wanted:
            self.take(next(stream))
        return self.entries[-count:] if count else []

    def take_heartbeat(self, stream: Responses) -> None:
        """Deal with messages up to a heartbeat: what came before it counts as sent."""
        seen = self.heartbeats
        while self.heartbeats == seen:
            self.take(next(stream))

    @property
    def sequences(self) -> list[int]:
        """The numbers of the entries it was sent."""
        return [entry.sequence for entry in self.entries]


@contextmanager
def watching(
    checkout: Checkout, *, after: int = 0, order_id: str = "", client: Client | None = None
) -> Iterator[tuple[Watcher, Responses]]:
    """Watch for the block, once the first message has come."""
    client = client or checkout.orders(SHOP)
    with client.stream(
        "WatchOrderEvents", timeout=120, after_sequence=after, order_id=order_id
    ) as stream:
        watcher = Watcher(after=after)
        watcher.take(next(stream))
        assert (watcher.heartbeats, watcher.resume_after) == (1, after)
        yield watcher, stream


def until_nobody_watches(checkout: Checkout) -> None:
    """Wait for the streams of an earlier test, which may be just about to end and have to."""
    eventually(lambda: not checkout.order_server._streams.any_is_open, seconds=5)


@contextmanager
def as_many_as_are_served(
    checkout: Checkout, client: Client | None = None
) -> Iterator[list[Responses]]:
    """Open every stream that the server keeps, from the end of the history on."""
    until_nobody_watches(checkout)
    after = last_sequence(checkout)
    with ExitStack() as watchers:
        yield [
            watchers.enter_context(watching(checkout, after=after, client=client))[1]
            for _ in range(checkout.order_settings.threads // 4)
        ]


@contextmanager
def client_at(address: str) -> Iterator[Client]:
    """A client with a connection of its own, which takes 64 kB that nobody reads and no more."""
    with grpc.insecure_channel(address, options=[("grpc.http2.bdp_probe", 0)]) as channel:
        yield Client(channel, ORDER_SERVICE_NAME, SHOP)


def add_entries(checkout: Checkout, order_id: str, count: int) -> None:
    """Make an order's history longer by so many entries, all at once."""

    def write(connection: sa.Connection) -> None:
        # As in every transaction of ours, an entry is not the first thing written.
        if not checkout.order_database.is_sqlite:
            connection.execute(sa.text("SELECT pg_current_xact_id()"))
        connection.execute(sa.text(COPIES), {"order_id": order_id, "count": count})

    checkout.order_database.transact(write)


def last_sequence(checkout: Checkout) -> int:
    """The greatest number in the history."""
    return max(stored_sequences(checkout.order_database), default=0)


def stored_sequences(database: Database) -> list[int]:
    """Every number in the history."""
    query = sa.text("SELECT sequence FROM order_audit_entries ORDER BY sequence")
    return list(database.read(lambda connection: connection.execute(query).scalars().all()))


def trace_id_of(stream: Responses) -> str:
    """The trace id of its call."""
    return str(stream.initial_metadata()["x-trace-id"])


def lines_of_streams(log: CapturedLog, trace_ids: Collection[str]) -> list[dict[str, Any]]:
    """What was logged of those of these streams that are over.

    A stream of an earlier test may end in the log of this one.
    """
    method = f"/{ORDER_SERVICE_NAME}/WatchOrderEvents"
    lines = [line for line in log.lines("rpc") if line["method"] == method]
    return [line for line in lines if line["trace_id"] in trace_ids]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def opened_again(client: Client) -> None:
    """Try to watch until the server takes it; fail before a heartbeat would have told it."""
    give_up_at = time.monotonic() + 5
    while True:
        outcome = reason_of(outcome_of(lambda: client.answer("WatchOrderEvents")))
        if outcome == "OK":
            return
        assert outcome == "OVERLOADED"
        assert time.monotonic() < give_up_at, "the place is not given back"
        time.sleep(0.02)

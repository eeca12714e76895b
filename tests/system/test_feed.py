"""The history as a feed: a reader that goes on from the last number misses nothing.

The transactions are the service's own. A trigger that runs at their commit holds each of them
open for another while, after it took its number, and has some roll back, which the service runs
again: numbers become visible out of their order, and some never do.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from service_kit.database import Database
from tests.builders import new_order_item
from tests.checkout import Checkout
from tests.client import OPERATIONS, Answer
from tests.system.checkouts import POSTGRESQL, Checkouts
from tests.system.simultaneously import outcome_of

pytestmark = pytest.mark.requirement("FR-229")

WRITERS = 8
CALLS_EACH = 8
READERS = 2

_HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(random() * {seconds});
    IF random() < {failing} THEN
        RAISE SQLSTATE '40001';
    END IF;
    RETURN NULL;
END $$
"""
_TRIGGER = """
CREATE CONSTRAINT TRIGGER holding AFTER INSERT ON {table}
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold()
"""


@contextmanager
def held_at_commit(
    database: Database, table: str, *, seconds: float = 0.1, failing: float = 0.2
) -> Iterator[None]:
    """Hold transactions that wrote to the table open for up to `seconds`; roll some back."""
    with database.engine.begin() as connection:
        connection.execute(sa.text(_HOLD.format(seconds=seconds, failing=failing)))
        connection.execute(sa.text(_TRIGGER.format(table=table)))
    yield
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP FUNCTION hold CASCADE"))


class Reader:
    """Follows a feed in a thread of its own, until it is told that nothing more comes."""

    def __init__(self, read: Callable[[int], list[Any]]) -> None:
        self._read = read
        self._is_last_round = threading.Event()
        self.sequences: list[int] = []

    def follow(self) -> list[int]:
        while True:
            is_last_round = self._is_last_round.is_set()
            page = self._read(self.sequences[-1] if self.sequences else 0)
            self.sequences += [entry.sequence for entry in page]
            if is_last_round and not page:
                return self.sequences

    def finish(self) -> None:
        self._is_last_round.set()


def followed(read: Callable[[int], list[Any]], write: Callable[[], None]) -> list[list[int]]:
    """Let several readers follow while something writes, and return what each of them saw."""
    readers = [Reader(read) for _ in range(READERS)]
    with ThreadPoolExecutor(READERS) as threads:
        following = [threads.submit(reader.follow) for reader in readers]
        try:
            write()
        finally:
            for reader in readers:
                reader.finish()
        return [future.result() for future in following]


def stored_sequences(database: Database, table: str) -> list[int]:
    query = sa.text(f"SELECT sequence FROM {table} ORDER BY sequence")  # noqa: S608 - a name of ours
    return list(database.read(lambda connection: connection.execute(query).scalars().all()))


@pytest.fixture(scope="module")
def checkout(checkouts: Checkouts) -> Iterator[Checkout]:
    """A checkout on PostgreSQL whose transactions this module may hold open."""
    with checkouts.running(POSTGRESQL) as running:
        yield running


def orders_after(checkout: Checkout, page_size: int) -> Callable[[int], list[Any]]:
    client = checkout.orders(OPERATIONS)
    return lambda after: list(
        client.ListOrderAuditEntries(after_sequence=after, page_size=page_size).entries
    )


def payments_after(checkout: Checkout, page_size: int) -> Callable[[int], list[Any]]:
    client = checkout.payments(OPERATIONS)
    return lambda after: list(
        client.ListPaymentAuditEntries(after_sequence=after, page_size=page_size).entries
    )


def place_many(checkout: Checkout) -> None:
    """Place orders from several threads."""

    def place(_: int) -> None:
        outcome_of(lambda: checkout.orders().answer("CreateOrder", items=[new_order_item()]))

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(place, range(WRITERS * CALLS_EACH)))


@pytest.mark.parametrize("page_size", [1, 7, 100])
def test_readers_of_the_order_history_miss_nothing(checkout: Checkout, page_size: int) -> None:
    database = checkout.order_database
    with held_at_commit(database, "order_audit_entries"):
        seen = followed(orders_after(checkout, page_size), lambda: place_many(checkout))
    stored = stored_sequences(database, "order_audit_entries")
    assert stored != list(range(1, len(stored) + 1)), "numbers that rolled back stay missing"
    assert seen == [stored] * READERS


def test_readers_of_the_payment_history_miss_nothing(checkout: Checkout) -> None:
    orders = [checkout.place() for _ in range(WRITERS * 4)]
    database = checkout.payment_database

    def process_all() -> None:
        with ThreadPoolExecutor(WRITERS) as threads:
            list(threads.map(lambda order: outcome_of(lambda: processed(order)), orders))

    def processed(order: Any) -> Answer:
        return checkout.payments().answer(
            "ProcessPayment", payment_ticket=order.payment_ticket, payment_token="tok_visa"
        )

    with held_at_commit(database, "payment_audit_entries"):
        seen = followed(payments_after(checkout, 10), process_all)
    stored = stored_sequences(database, "payment_audit_entries")
    assert len(stored) > len(orders)
    assert seen == [stored] * READERS


def test_a_number_that_is_held_for_long_holds_the_readers_and_is_not_skipped(
    checkout: Checkout,
) -> None:
    """The later number is committed, the earlier one is not: neither is shown."""
    checkout.place()
    read = orders_after(checkout, 100)
    start = read_to_the_end(read)
    [order_id] = {checkout.place().id}
    first = read_to_the_end(read, start)
    with checkout.order_database.engine.connect() as holding:
        holding.execute(sa.text("SELECT pg_current_xact_id()"))
        holding.execute(sa.text(COPY_OF_AN_ENTRY), {"order_id": order_id})
        later = checkout.place().id
        assert read(first) == []
        assert checkout.events(later) == ["order_created"], "one order's entries need not wait"
        holding.commit()
    assert [entry.order_id for entry in read(first)] == [order_id, later]


def test_a_number_that_was_rolled_back_holds_nobody(checkout: Checkout) -> None:
    read = orders_after(checkout, 100)
    order_id = checkout.place().id
    last = read_to_the_end(read)
    with checkout.order_database.engine.connect() as holding:
        holding.execute(sa.text("SELECT pg_current_xact_id()"))
        holding.execute(sa.text(COPY_OF_AN_ENTRY), {"order_id": order_id})
        holding.rollback()
    later = checkout.place().id
    assert [entry.order_id for entry in read(last)] == [later]


COPY_OF_AN_ENTRY = """
INSERT INTO order_audit_entries
    (order_id, position, actor_role, actor_reference, at, event_type, from_status, to_status,
     outcome, reason, payment_id, trace_id, seal_version, seal)
SELECT order_id, position + 1, actor_role, actor_reference, at, event_type, from_status, to_status,
     outcome, reason, payment_id, trace_id, seal_version, seal
FROM order_audit_entries WHERE order_id = :order_id
"""


def read_to_the_end(read: Callable[[int], list[Any]], after: int = 0) -> int:
    while page := read(after):
        after = page[-1].sequence
    return after


class TestOneOrdersHistory:
    def test_has_its_entries_and_nobody_elses(self, each_checkout: Checkout) -> None:
        one, other = each_checkout.paid(), each_checkout.paid()
        each_checkout.fulfill(one)
        each_checkout.refund(other)
        assert each_checkout.events(one.id) == ["order_created", "order_paid", "order_fulfilled"]
        assert each_checkout.events(other.id) == ["order_created", "order_paid", "order_refunded"]
        assert {entry.order_id for entry in each_checkout.history(one.id)} == {one.id}
        payments = each_checkout.payment_history(other.id)
        assert {entry.order_id for entry in payments} == {other.id}
        assert [entry.event_type for entry in payments] == [
            "payment_requested",
            "payment_succeeded",
            "refund_requested",
            "refund_succeeded",
        ]

    def test_is_read_in_pages_too(self, each_checkout: Checkout) -> None:
        order = each_checkout.fulfill(each_checkout.paid())
        client = each_checkout.orders(OPERATIONS)
        seen: list[Any] = []
        while page := list(
            client.ListOrderAuditEntries(
                order_id=order.id,
                page_size=1,
                after_sequence=seen[-1].sequence if seen else 0,
            ).entries
        ):
            seen += page
        assert seen == each_checkout.history(order.id)

    def test_of_an_order_that_is_not_there_is_empty(self, each_checkout: Checkout) -> None:
        assert each_checkout.history("ord_unknown") == []
        assert each_checkout.payment_history("ord_unknown") == []

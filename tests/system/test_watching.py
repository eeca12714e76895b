"""Following the order history: from any place, in order, without a gap, at least once."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pytest
import sqlalchemy as sa

from tests.assertions import refused
from tests.builders import new_order_item
from tests.checkout import Checkout
from tests.client import OPERATIONS
from tests.system.checkouts import BOTH, POSTGRESQL, Checkouts
from tests.system.simultaneously import outcome_of
from tests.system.test_feed import COPY_OF_AN_ENTRY, held_at_commit
from tests.system.watching import (
    Watcher,
    add_entries,
    last_sequence,
    stored_sequences,
    watching,
)

WRITERS = 4
ORDERS_EACH = 6


@pytest.mark.requirement("FR-240")
class TestAWatcher:
    def test_is_sent_what_there_is_and_then_what_comes(self, each_checkout: Checkout) -> None:
        after = last_sequence(each_checkout)
        order = each_checkout.paid()
        with watching(each_checkout, after=after) as (watcher, stream):
            watcher.take_entries(stream, 2)
            each_checkout.fulfill(order)
            watcher.take_entries(stream, 1)
            each_checkout.archive(order)
            watcher.take_entries(stream, 1)
        assert watcher.entries == each_checkout.history(order.id)

    def test_of_one_order_is_sent_nothing_of_others(self, each_checkout: Checkout) -> None:
        one = each_checkout.place()
        with watching(each_checkout, order_id=one.id) as (watcher, stream):
            other = each_checkout.paid()
            each_checkout.pay(one)
            each_checkout.refund(other)
            each_checkout.fulfill(one)
            watcher.take_entries(stream, 3)
        assert watcher.entries == each_checkout.history(one.id)

    def test_of_an_order_that_comes_later_waits_for_it(self, each_checkout: Checkout) -> None:
        with watching(each_checkout, order_id="ord_unknown", after=1) as (watcher, _):
            assert watcher.entries == []

    def test_may_ask_for_what_comes_after_a_number_that_is_far_ahead(
        self, each_checkout: Checkout
    ) -> None:
        with watching(each_checkout, after=2**62) as (watcher, _):
            each_checkout.place()
        assert watcher.resume_after == 2**62

    def test_is_sent_a_long_history_once_and_in_order(self, each_checkout: Checkout) -> None:
        """More than is read at a time, more than one look at the head."""
        after, order = last_sequence(each_checkout), each_checkout.place()
        add_entries(each_checkout, order.id, 2_500)
        with watching(each_checkout, after=after) as (watcher, stream):
            watcher.take_entries(stream, 2_501)
        assert watcher.sequences == stored_sequences(each_checkout.order_database)[-2_501:]

    @pytest.mark.parametrize("count", [1, 8])
    def test_is_served_like_every_other(self, each_checkout: Checkout, count: int) -> None:
        after = last_sequence(each_checkout)

        def watch(_: int) -> list[int]:
            with watching(each_checkout, after=after) as (watcher, stream):
                watcher.take_entries(stream, 3 * WRITERS)
                return watcher.sequences

        with ThreadPoolExecutor(count) as threads:
            seen = threads.map(watch, range(count))
            with ThreadPoolExecutor(WRITERS) as writers:
                list(writers.map(lambda _: pay_and_fulfill(each_checkout), range(WRITERS)))
            stored = stored_sequences(each_checkout.order_database)[-3 * WRITERS :]
            assert list(seen) == [stored] * count


def pay_and_fulfill(checkout: Checkout) -> None:
    checkout.fulfill(checkout.paid())


@pytest.mark.requirement("FR-242")
@pytest.mark.parametrize("database", BOTH)
class TestAHeartbeat:
    def test_comes_first_and_whenever_it_has_been_quiet(
        self, checkouts: Checkouts, database: str
    ) -> None:
        with checkouts.running(database, heartbeat_seconds=0.1) as checkout:
            with watching(checkout) as (watcher, stream):
                for _ in range(3):
                    watcher.take(next(stream))
                assert (watcher.heartbeats, watcher.entries) == (4, [])
                order = checkout.place()
                watcher.take_entries(stream, 1)
                while watcher.heartbeats < 6:
                    watcher.take(next(stream))
            assert watcher.entries == checkout.history(order.id)

    def test_says_how_far_the_history_of_others_was_read(
        self, checkouts: Checkouts, database: str
    ) -> None:
        """Whoever goes on from there is not sent through what is not theirs again."""
        with checkouts.running(database, heartbeat_seconds=0.1) as checkout:
            one = checkout.place()
            with watching(checkout, order_id=one.id) as (watcher, stream):
                checkout.paid()
                while watcher.resume_after < last_sequence(checkout):
                    watcher.take(next(stream))
            assert watcher.entries == checkout.history(one.id)


@pytest.mark.requirement("FR-240")
@pytest.mark.parametrize("database", BOTH)
class TestGoingOn:
    def test_after_every_break_delivers_every_entry_at_least_once(
        self, checkouts: Checkouts, database: str
    ) -> None:
        """A reader that fails before it has dealt with its last message; writers go on."""
        with checkouts.running(database) as checkout, place_many(checkout) as writing:
            reader, received = Watcher(), 0
            while not (writing.is_over() and reader.resume_after == last_sequence(checkout)):
                with watching(checkout, after=reader.resume_after) as (_, stream):
                    for _ in range(2):
                        message = next(stream)
                        reader.take(message)
                        received += message.HasField("entry")
                    if not (writing.is_over() and reader.resume_after == last_sequence(checkout)):
                        # Received and lost.
                        received += next(stream).HasField("entry")
            assert reader.sequences == stored_sequences(checkout.order_database)
            assert received > len(reader.entries)

    def test_after_the_server_was_away_misses_nothing(
        self, checkouts: Checkouts, database: str
    ) -> None:
        with checkouts.running(database) as checkout:
            order = checkout.paid()
            with watching(checkout) as (reader, stream):
                reader.take_entries(stream, 1)
                checkout.order_server.stop()
                with refused(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING"):
                    for message in stream:
                        reader.take(message)
            add_entries(checkout, order.id, 3)
            checkout.start_orders()
            with watching(checkout, after=reader.resume_after) as (again, stream):
                again.take_entries(stream, 5 - len(reader.entries))
            assert reader.sequences + again.sequences == stored_sequences(checkout.order_database)


@dataclass
class Writing:
    """Writers at work."""

    futures: list[Future[None]]

    def is_over(self) -> bool:
        """Say whether all are done. Raises what one of them failed with."""
        return all(future.done() and future.result() is None for future in self.futures)


@contextmanager
def place_many(checkout: Checkout) -> Iterator[Writing]:
    """Place orders from several threads during the block."""

    def place() -> None:
        for _ in range(ORDERS_EACH):
            outcome_of(lambda: checkout.orders().answer("CreateOrder", items=[new_order_item()]))

    with ThreadPoolExecutor(WRITERS) as threads:
        yield Writing([threads.submit(place) for _ in range(WRITERS)])


@pytest.fixture(scope="module")
def overtaking(checkouts: Checkouts) -> Iterator[Checkout]:
    """A checkout on PostgreSQL whose transactions this module may hold open."""
    with checkouts.running(POSTGRESQL, heartbeat_seconds=0.2) as running:
        yield running


@pytest.mark.requirement("FR-241")
class TestTransactionsThatOvertakeEachOther:
    def test_are_not_skipped_by_a_watcher_that_is_there(self, overtaking: Checkout) -> None:
        """Numbers become visible out of order, and some never do."""
        after, database = last_sequence(overtaking), overtaking.order_database
        with (
            watching(overtaking, after=after) as (watcher, stream),
            held_at_commit(database, "order_audit_entries"),
        ):
            with place_many(overtaking) as writing:
                while not writing.is_over():
                    watcher.take(next(stream))
            read_up_to_the_end(overtaking, watcher, lambda: watcher.take(next(stream)))
        stored = [n for n in stored_sequences(database) if n > after]
        assert stored != list(range(stored[0], stored[-1] + 1)), "some were rolled back"
        assert watcher.sequences == stored

    def test_are_not_skipped_by_watchers_that_come_and_go(self, overtaking: Checkout) -> None:
        after, database = last_sequence(overtaking), overtaking.order_database
        reader = Watcher(after=after)

        def watch_a_little() -> None:
            with watching(overtaking, after=reader.resume_after) as (_, stream):
                reader.take(next(stream))

        with held_at_commit(database, "order_audit_entries"), place_many(overtaking) as writing:
            while not writing.is_over():
                watch_a_little()
        read_up_to_the_end(overtaking, reader, watch_a_little)
        assert reader.sequences == [n for n in stored_sequences(database) if n > after]

    @pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls back"])
    def test_hold_the_later_number_until_the_earlier_one_is_over(
        self, overtaking: Checkout, *, commits: bool
    ) -> None:
        earlier = overtaking.place().id
        after = last_sequence(overtaking)
        with watching(overtaking, after=after) as (watcher, stream):
            with overtaking.order_database.engine.connect() as holding:
                holding.execute(sa.text("SELECT pg_current_xact_id()"))
                holding.execute(sa.text(COPY_OF_AN_ENTRY), {"order_id": earlier})
                later = overtaking.place().id
                while watcher.heartbeats < 5:
                    watcher.take(next(stream))
                assert watcher.resume_after == after
                (holding.commit if commits else holding.rollback)()
            watcher.take_entries(stream, 2 if commits else 1)
        assert [e.order_id for e in watcher.entries] == [earlier, later][not commits :]

    @pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls back"])
    def test_hold_the_first_watcher_of_a_server_too(
        self, checkouts: Checkouts, *, commits: bool
    ) -> None:
        """A server that has just started knows nothing of what was visible before."""
        with checkouts.running(POSTGRESQL, heartbeat_seconds=0.2) as checkout:
            earlier = checkout.place().id
            with checkout.order_database.engine.connect() as holding:
                holding.execute(sa.text("SELECT pg_current_xact_id()"))
                holding.execute(sa.text(COPY_OF_AN_ENTRY), {"order_id": earlier})
                later = checkout.place().id
                with watching(checkout, after=1) as (watcher, stream):
                    while watcher.heartbeats < 5:
                        watcher.take(next(stream))
                    assert watcher.resume_after == 1
                    (holding.commit if commits else holding.rollback)()
                    watcher.take_entries(stream, 2 if commits else 1)
            assert [e.order_id for e in watcher.entries] == [earlier, later][not commits :]


def read_up_to_the_end(checkout: Checkout, watcher: Watcher, read: Callable[[], None]) -> None:
    """Let a watcher read on until it has read everything."""
    while watcher.resume_after < last_sequence(checkout):
        read()


@pytest.mark.requirement("FR-240", "FR-230")
def test_operations_may_watch_as_well(each_checkout: Checkout) -> None:
    order = each_checkout.place()
    client = each_checkout.orders(OPERATIONS)
    with watching(each_checkout, order_id=order.id, client=client) as (watcher, stream):
        watcher.take_entries(stream, 1)
    assert watcher.entries == each_checkout.history(order.id)


@pytest.mark.requirement("FR-202")
def test_a_place_before_the_beginning_is_refused(each_checkout: Checkout) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
        each_checkout.orders(OPERATIONS).WatchOrderEvents(after_sequence=-1, order_id="no such id!")
    assert list(refusal.violations) == ["after_sequence", "order_id"]

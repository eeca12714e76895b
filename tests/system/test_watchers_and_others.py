"""What watchers may not do: take more than their share, hold the server up, harm anybody."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import pytest
import sqlalchemy as sa

from tests.assertions import refused
from tests.captured_log import captured_log
from tests.checkout import Checkout
from tests.client import ALICE, SHOP, Caller, Responses
from tests.stalled_line import StalledLine, stalled_line
from tests.system.checkouts import BOTH, POSTGRESQL, Checkouts
from tests.system.simultaneously import wait_until
from tests.system.watching import (
    Watcher,
    add_entries,
    as_many_as_are_served,
    client_at,
    last_sequence,
    lines_of_streams,
    opened_again,
    stored_sequences,
    trace_id_of,
    until_nobody_watches,
    watching,
    within,
)

# Far more than fits into every buffer on the way.
MANY = 10_000
# A quarter of them may watch.
THREADS = 8


@contextmanager
def slow_readers(checkout: Checkout, count: int) -> Iterator[list[tuple[StalledLine, Responses]]]:
    """Watchers, each on a connection of its own, that stop reading once they are served."""
    until_nobody_watches(checkout)
    after = last_sequence(checkout)
    with ExitStack() as stack:
        readers = []
        for _ in range(count):
            line = stack.enter_context(stalled_line(checkout.order_server.address))
            client = stack.enter_context(client_at(line.address))
            _, stream = stack.enter_context(watching(checkout, after=after, client=client))
            line.stall()
            readers.append((line, stream))
        yield readers


@contextmanager
def drained_by(checkout: Checkout) -> Iterator[None]:
    """Stop the server during the block, and expect it to have stopped long before its time."""
    with ThreadPoolExecutor(1) as other, within(checkout.order_settings.drain_seconds / 2):
        stopping = other.submit(checkout.order_server.stop)
        yield
        stopping.result()


@pytest.fixture(scope="module", params=BOTH)
def few(request: pytest.FixtureRequest, checkouts: Checkouts) -> Iterator[Checkout]:
    """A checkout with few threads on each database."""
    with checkouts.running(request.param, order_threads=THREADS) as running:
        yield running


@pytest.mark.requirement("FR-243")
class TestTheLimit:
    def test_is_a_quarter_of_the_threads_and_one_more_is_refused(self, few: Checkout) -> None:
        with as_many_as_are_served(few) as streams:
            assert len(streams) == THREADS // 4
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED") as refusal:
                few.orders(SHOP).WatchOrderEvents(timeout=5)
            assert refusal.retry_seconds > 0
            few.paid()

    def test_refuses_as_many_as_come_while_nobody_reads(self, few: Checkout) -> None:
        """Whoever is served has stopped reading, and holds none of those up that are refused."""
        with slow_readers(few, THREADS // 4):
            add_entries(few, few.place().id, MANY)

            def refuse(_: int) -> None:
                with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"):
                    few.orders(SHOP).WatchOrderEvents(timeout=10)

            with ThreadPoolExecutor(THREADS) as threads:
                list(threads.map(refuse, range(4 * THREADS)))

    def test_comes_after_the_identity_and_the_role(self, few: Checkout) -> None:
        with as_many_as_are_served(few):
            with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING"):
                few.orders(Caller("nobody", "x")).WatchOrderEvents()
            with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
                few.orders(ALICE).WatchOrderEvents()

    def test_leaves_every_thread_to_the_other_calls(self, few: Checkout) -> None:
        """As many calls at once as there are threads, while every watcher is there."""
        pending = [few.place() for _ in range(THREADS)]
        with as_many_as_are_served(few), ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda order: few.pay(order, "tok_slow"), pending))

    def test_is_one_at_least(self, checkouts: Checkouts) -> None:
        with checkouts.running(order_threads=2) as checkout, watching(checkout):
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"):
                checkout.orders(SHOP).WatchOrderEvents()
            checkout.paid()


@pytest.mark.requirement("FR-243")
class TestAPlace:
    def test_is_given_back_when_the_watcher_leaves(self, few: Checkout) -> None:
        with as_many_as_are_served(few) as streams:
            streams[0].cancel()
            opened_again(few.orders(SHOP))

    def test_is_given_back_when_the_watchers_time_is_over(self, few: Checkout) -> None:
        with as_many_as_are_served(few) as streams:
            streams[0].cancel()
            opened_again(few.orders(SHOP))
            with (
                few.orders(SHOP).stream("WatchOrderEvents", timeout=0.2) as short,
                pytest.raises(grpc.RpcError),
            ):
                list(short)
            opened_again(few.orders(SHOP))

    def test_is_given_back_when_the_connection_breaks(self, few: Checkout) -> None:
        with (
            stalled_line(few.order_server.address) as line,
            client_at(line.address) as client,
            as_many_as_are_served(few, client),
        ):
            line.close()
            opened_again(few.orders(SHOP))

    def test_is_given_back_by_a_slow_reader_whose_connection_breaks(self, few: Checkout) -> None:
        with slow_readers(few, THREADS // 4) as readers:
            add_entries(few, few.place().id, MANY)
            readers[0][0].close()
            opened_again(few.orders(SHOP))

    def test_is_given_back_by_a_slow_reader_that_leaves(self, few: Checkout) -> None:
        """It reads no more, but what it says arrives."""
        with slow_readers(few, THREADS // 4) as readers:
            add_entries(few, few.place().id, MANY)
            readers[0][1].cancel()
            opened_again(few.orders(SHOP))

    def test_is_not_lost_by_any_of_many_that_come_and_go(self, few: Checkout) -> None:
        for _ in range(20):
            opened_again(few.orders(SHOP))
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda _: come_and_go(few), range(5 * THREADS)))
        opened_again(few.orders(SHOP))


def come_and_go(checkout: Checkout) -> None:
    """Watch and leave before, while or after it is answered."""
    with checkout.orders(SHOP).stream("WatchOrderEvents"):
        pass


@pytest.mark.requirement("FR-244")
@pytest.mark.parametrize("database", BOTH)
class TestAReaderThatDoesNotRead:
    def test_harms_nobody_and_misses_nothing(self, checkouts: Checkouts, database: str) -> None:
        with (
            captured_log() as log,
            checkouts.running(database, order_threads=THREADS, heartbeat_seconds=0.5) as checkout,
            slow_readers(checkout, 1) as [(line, slow)],
        ):
            after, order = last_sequence(checkout), checkout.place()
            add_entries(checkout, order.id, MANY - 1)
            with watching(checkout, after=after) as (other, stream):
                other.take_entries(stream, MANY)
                # Nothing that others do waits for it.
                added = checkout.fulfill(checkout.paid())
                assert other.take_entries(stream, 3)[-1].order_id == added.id
                other.take_heartbeat(stream)
            assert other.sequences == stored_sequences(checkout.order_database)
            line.flow()
            reader = Watcher(after=after)
            reader.take_entries(slow, MANY + 3)
            reader.take_heartbeat(slow)
            assert reader.sequences == other.sequences
            slow.cancel()
            trace_ids = [trace_id_of(slow), trace_id_of(stream)]
            wait_until(lambda: len(lines_of_streams(log, trace_ids)) == 2)
            lines = lines_of_streams(log, trace_ids)
            assert [line["entries"] for line in lines] == [MANY + 3] * 2

    def test_is_not_written_for_ahead(self, checkouts: Checkouts, database: str) -> None:
        """What it does not take is left in the database: 10,000 entries are 2 MB of messages."""
        with (
            captured_log() as log,
            checkouts.running(database, order_threads=THREADS) as checkout,
            slow_readers(checkout, 1) as [(line, slow)],
        ):
            add_entries(checkout, checkout.place().id, MANY)
            with watching(checkout, after=last_sequence(checkout) - MANY) as (other, stream):
                other.take_entries(stream, MANY)
            line.close()
            trace_ids = [trace_id_of(slow)]
            wait_until(lambda: bool(lines_of_streams(log, trace_ids)))
            [end] = lines_of_streams(log, trace_ids)
            assert end["entries"] < MANY / 4

    def test_does_not_hold_the_drain(self, checkouts: Checkouts, database: str) -> None:
        with (
            checkouts.running(database, order_threads=THREADS) as checkout,
            slow_readers(checkout, THREADS // 4),
        ):
            add_entries(checkout, checkout.place().id, MANY)
            with drained_by(checkout):
                pass


@pytest.mark.requirement("FR-245")
@pytest.mark.parametrize("database", BOTH)
class TestTheDrain:
    def test_ends_every_stream_at_once(self, checkouts: Checkouts, database: str) -> None:
        with (
            checkouts.running(database, order_threads=THREADS) as checkout,
            as_many_as_are_served(checkout) as streams,
            drained_by(checkout),
        ):
            for stream in streams:
                with refused(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING") as refusal:
                    list(stream)
                assert refusal.retry_seconds > 0

    def test_lets_calls_finish_meanwhile(self, checkouts: Checkouts, database: str) -> None:
        with checkouts.running(database) as checkout, as_many_as_are_served(checkout) as streams:
            order = checkout.place()
            with ThreadPoolExecutor(1) as other:
                paying = other.submit(checkout.pay, order, "tok_slow")
                wait_until(lambda: checkout.order(order.id).HasField("pending_operation"))
                with drained_by(checkout):
                    for stream in streams:
                        with refused(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING"):
                            list(stream)
                    assert paying.result().id == order.id


@pytest.mark.requirement("FR-245", "FR-235")
class TestAStreamWhoseDatabaseFails:
    @pytest.mark.parametrize(
        ("fault", "code", "reason"),
        [
            pytest.param(
                "ALTER TABLE order_audit_entries RENAME TO hidden",
                grpc.StatusCode.INTERNAL,
                "INTERNAL",
                id="a bug",
            ),
            pytest.param(
                "ALTER DATABASE {name} ALLOW_CONNECTIONS false",
                grpc.StatusCode.UNAVAILABLE,
                "STORAGE_UNAVAILABLE",
                id="no database",
            ),
        ],
    )
    def test_ends_with_the_reason(
        self, checkouts: Checkouts, fault: str, code: grpc.StatusCode, reason: str
    ) -> None:
        with captured_log() as log, checkouts.running(POSTGRESQL) as checkout:
            with as_many_as_are_served(checkout) as streams:
                break_it(checkout, fault)
                for stream in streams:
                    with refused(code, reason) as refusal:
                        list(stream)
                    assert refusal.trailers["x-trace-id"] == trace_id_of(stream)
            lines = lines_of_streams(log, [trace_id_of(stream) for stream in streams])
            assert [line["reason"] for line in lines] == [reason] * len(streams)


def break_it(checkout: Checkout, fault: str) -> None:
    """Do this to the PostgreSQL database; done from outside, it ends all connections too."""
    url = checkout.order_database.engine.url
    is_from_outside = "ALTER DATABASE" in fault
    engine = sa.create_engine(
        url.set(database="postgres") if is_from_outside else url, isolation_level="AUTOCOMMIT"
    )
    database = url.database
    with engine.connect() as connection:
        connection.execute(sa.text(fault.format(name=database)))
        if is_from_outside:
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            connection.execute(sa.text(end), {"name": database})
    engine.dispose()

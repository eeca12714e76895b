"""More calls than can be served, of many callers and of one, and calls that say nothing."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

import grpc
import pytest
import sqlalchemy as sa
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from service_kit.database import Database
from tests.assertions import refused
from tests.builders import new_request
from tests.checkout import Checkout
from tests.client import (
    ALICE,
    BOB,
    OPERATIONS,
    ORDER_SERVICE_NAME,
    PAYMENT_SERVICE_NAME,
    SHOP,
    Answer,
    Caller,
)
from tests.silent_calls import code_of, silence, silent_calls
from tests.system.checkouts import Checkouts
from tests.system.simultaneously import outcome_of, reason_of, wait_until
from tests.system.watching import Watcher, add_entries, as_many_as_are_served, last_sequence

PLACES: Final = 4
SLOW_SECONDS: Final = 4.0
SILENCE_SECONDS: Final = 3.0
FLOOD_SECONDS: Final = 4.0
MANY_PLACES: Final = 32
MANY_CALLERS: Final = 64
EXHAUSTED: Final = grpc.StatusCode.RESOURCE_EXHAUSTED

UNDER_WAY: Final = {
    "orders": "SELECT count(*) FROM payment_operations WHERE status = 'in_flight'",
    "payments": "SELECT count(*) FROM payments WHERE status = 'pending'",
}


class Busy:
    """A service that serves as many calls as it can, for seconds, and how to call it."""

    def __init__(self, checkout: Checkout, service: str) -> None:
        self.checkout = checkout
        self._service = service
        orders = service == "orders"
        self.client = checkout.orders if orders else checkout.payments
        self.channel = checkout.order_channel if orders else checkout.payment_channel
        self.database = checkout.order_database if orders else checkout.payment_database
        self.list = "ListOrders" if orders else "ListPayments"
        self.name = ORDER_SERVICE_NAME if orders else PAYMENT_SERVICE_NAME

    def pay_slowly(self, order: order_pb2.Order) -> Any:
        """Make a call that waits for the gateway. Returns the order or the payment."""
        step = self.checkout.pay if self._service == "orders" else self.checkout.process
        return step(order, "tok_slow")

    def call(self, caller: Caller = BOB) -> Answer:
        """Make a call that waits for nobody."""
        return self.client(caller).answer(self.list)

    def is_healthy(self) -> bool:
        """Ask the health check."""
        stub: Any = health_pb2_grpc.HealthStub(self.channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    @contextmanager
    def taken(self) -> Iterator[list[Future[Any]]]:
        """Take every place, and wait at the end of the block until they are free again."""
        orders = [self.checkout.place() for _ in range(PLACES)]
        with ThreadPoolExecutor(PLACES) as threads:
            calls = [threads.submit(self.pay_slowly, order) for order in orders]
            wait_until(lambda: number(self.database, UNDER_WAY[self._service]) == PLACES)
            yield calls


def number(database: Database, query: str) -> int:
    """Count something in a database: no call has a place for it."""
    return int(database.read(lambda connection: connection.execute(sa.text(query)).scalar_one()))


@pytest.fixture(params=["orders", "payments"])
def busy(request: pytest.FixtureRequest, checkouts: Checkouts) -> Iterator[Busy]:
    """A service with few places and a slow gateway behind it."""
    settings: dict[str, Any] = {
        f"{request.param.removesuffix('s')}_threads": PLACES,
        "payment_gateway_slow_seconds": SLOW_SECONDS,
    }
    with checkouts.running(**settings) as checkout:
        yield Busy(checkout, request.param)


@pytest.mark.requirement("FR-351")
class TestACallTooMany:
    def test_threat_10_is_refused_at_once_and_starts_nothing(self, busy: Busy) -> None:
        with busy.taken() as calls:
            with refused(EXHAUSTED, "OVERLOADED") as refusal:
                busy.call()
            assert refusal.retry_seconds > 0
            assert refusal.metadata == {}
            assert not any(call.done() for call in calls)
        assert {is_paid(call.result()) for call in calls} == {True}
        busy.call()

    def test_threat_10_leaves_the_health_and_the_contract_to_be_asked_for(self, busy: Busy) -> None:
        with busy.taken() as calls:
            for _ in range(20):
                assert busy.is_healthy()
            assert busy.name in reflected(busy.channel)
            assert not any(call.done() for call in calls)

    def test_threat_10_takes_no_place_from_those_that_are_served(self, busy: Busy) -> None:
        """Ten times as many as can be: who has a place is done when its gateway is."""
        with busy.taken() as calls, flooded(busy) as outcomes:
            started = time.monotonic()
            assert {is_paid(call.result()) for call in calls} == {True}
            assert time.monotonic() - started < 2 * SLOW_SECONDS
            assert busy.is_healthy()
        assert set(outcomes) <= {"OK", "OVERLOADED"}
        assert "OVERLOADED" in outcomes
        busy.call()

    def test_threat_10_is_not_taken_for_one_that_says_nothing(self, checkouts: Checkouts) -> None:
        """On a server that is kept busy by honest callers, none of them is cut off."""
        with checkouts.running(threads=MANY_PLACES) as checkout:
            busy = Busy(checkout, "orders")
            with flooded(busy, MANY_CALLERS) as outcomes:
                time.sleep(FLOOD_SECONDS)
        # How many are refused is up to the machine.
        assert "OK" in outcomes
        assert set(outcomes) <= {"OK", "OVERLOADED"}

    def test_threat_10_leaves_watchers_alone(self, checkouts: Checkouts) -> None:
        settings: dict[str, Any] = {
            "order_threads": PLACES,
            "payment_gateway_slow_seconds": SLOW_SECONDS,
        }
        with checkouts.running(**settings) as checkout, ExitStack() as held:
            order = checkout.place()
            streams = held.enter_context(as_many_as_are_served(checkout))
            held.enter_context(Busy(checkout, "orders").taken())
            add_entries(checkout, order.id, 1)
            newest = last_sequence(checkout)
            for stream in streams:
                watcher = Watcher()
                while newest not in watcher.sequences:
                    watcher.take(next(stream))


@pytest.mark.requirement("FR-351")
class TestAnOrderServiceWhosePaymentServiceIsBusy:
    def test_does_not_know_what_became_of_a_charge_and_finds_out(
        self, checkouts: Checkouts
    ) -> None:
        with checkouts.running(
            payment_threads=PLACES, payment_gateway_slow_seconds=SLOW_SECONDS
        ) as checkout:
            order = checkout.place()
            request = new_request("PayOrder", order_id=order.id, payment_token="tok_visa")
            with (
                Busy(checkout, "payments").taken(),
                refused(grpc.StatusCode.UNAVAILABLE, "PAYMENT_OUTCOME_UNKNOWN"),
            ):
                checkout.orders().answer("PayOrder", request)
            paid = checkout.orders().answer("PayOrder", request).message.order
            assert paid.status == order_pb2.ORDER_STATUS_PAID
            assert len(checkout.ledger.charges(order.id)) == 1


@pytest.mark.requirement("FR-352")
class TestOneCaller:
    def test_threat_10_has_so_many_calls_and_others_have_theirs(self, checkouts: Checkouts) -> None:
        with checkouts.running(customer_rate=0.01, customer_burst=3) as checkout:
            for client in (checkout.orders, checkout.payments):
                rpc = "ListOrders" if client == checkout.orders else "ListPayments"
                for _ in range(3):
                    client(ALICE).answer(rpc)
                with refused(EXHAUSTED, "RATE_LIMITED") as refusal:
                    client(ALICE).answer(rpc)
                assert 10 < refusal.retry_seconds <= 100
                client(BOB).answer(rpc)
                for _ in range(10):
                    client(OPERATIONS).answer(rpc)

    def test_threat_10_that_is_a_backend_has_so_many_if_it_is_told(
        self, checkouts: Checkouts
    ) -> None:
        """The order service is not one of them: whoever calls it has been counted."""
        with checkouts.running(backend_rate=0.01, backend_burst=2) as checkout:
            for _ in range(2):
                checkout.orders(SHOP).answer("ListOrders")
            with refused(EXHAUSTED, "RATE_LIMITED"):
                checkout.orders(SHOP).answer("ListOrders")
            for _ in range(3):
                checkout.paid()

    def test_threat_10_has_so_many_calls_at_a_time(self, checkouts: Checkouts) -> None:
        with checkouts.running(
            order_customer_calls=PLACES, payment_gateway_slow_seconds=SLOW_SECONDS
        ) as checkout:
            busy = Busy(checkout, "orders")
            with busy.taken():
                with refused(EXHAUSTED, "RATE_LIMITED"):
                    busy.call(ALICE)
                busy.call(BOB)
            busy.call(ALICE)

    def test_threat_10_is_not_counted_before_it_is_known_who_it_is(
        self, checkouts: Checkouts
    ) -> None:
        """What comes in somebody's name without being theirs costs them nothing."""
        with checkouts.running(customer_rate=0.01, customer_burst=1) as checkout:
            for _ in range(3):
                with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
                    checkout.orders(ALICE).answer("RefundOrder")
            checkout.orders(ALICE).answer("ListOrders")


@pytest.mark.requirement("FR-353")
class TestCallsThatSayNothing:
    METHODS: Final = (
        ("orders", f"/{ORDER_SERVICE_NAME}/GetOrder"),
        ("orders", f"/{ORDER_SERVICE_NAME}/WatchOrderEvents"),
        ("orders", "/grpc.health.v1.Health/Check"),
        ("payments", f"/{PAYMENT_SERVICE_NAME}/ProcessPayment"),
    )

    @pytest.mark.parametrize(("service", "method"), METHODS)
    def test_threat_10_without_an_identity_stop_nobody(
        self, checkouts: Checkouts, service: str, method: str
    ) -> None:
        with checkouts.running(threads=PLACES) as checkout:
            busy = Busy(checkout, service)
            with silent_calls(busy.channel, method, 20 * PLACES) as calls:
                assert busy.is_healthy()
                # Until they are all refused, so may others be.
                for call in calls:
                    code_of(call)
                assert is_paid(checkout.paid())
                with as_many_as_are_served(checkout) as streams:
                    next(streams[0])

    def test_threat_10_with_an_identity_are_cut_off_within_seconds(
        self, checkouts: Checkouts
    ) -> None:
        method = f"/{ORDER_SERVICE_NAME}/GetOrder"
        with checkouts.running(threads=PLACES) as checkout:
            busy = Busy(checkout, "orders")
            with silent_calls(busy.channel, method, PLACES, SHOP.metadata()) as calls:
                assert {code_of(call) for call in calls} == {grpc.StatusCode.CANCELLED}
            wait_until(lambda: reason_of(outcome_of(busy.call)) == "OK")

    def test_threat_10_without_an_end_keep_nobody_from_being_told_the_health(
        self, checkouts: Checkouts
    ) -> None:
        with checkouts.running() as checkout, ExitStack() as connections:
            address = checkout.order_server.address
            silent = [connections.enter_context(connection_of_its_own(address)) for _ in range(2)]
            stub: Any = health_pb2_grpc.HealthStub(checkout.order_channel)
            over_at = time.monotonic() + SILENCE_SECONDS
            with silence(silent, "/grpc.health.v1.Health/Check", 200):
                while time.monotonic() < over_at:
                    stub.Check(health_pb2.HealthCheckRequest(), timeout=3)
                    time.sleep(0.1)


@pytest.mark.requirement("FR-351")
class TestCallsThatAreTakenBack:
    def test_threat_10_cost_next_to_nothing(self, checkouts: Checkouts) -> None:
        """A client that cancels what it has just asked for, again and again (rapid reset).

        Its own connection may be told to come back later; others notice nothing.
        """
        with (
            checkouts.running(threads=PLACES) as checkout,
            connection_of_its_own(checkout.order_server.address) as channel,
        ):
            busy = Busy(checkout, "orders")
            method: Any = channel.unary_unary(f"/{busy.name}/{busy.list}")
            for _ in range(40):
                calls = [method.future(b"", metadata=tuple(BOB.metadata())) for _ in range(50)]
                for call in calls:
                    call.cancel()
                assert busy.is_healthy()
            again = partial(busy.client(BOB).answer, busy.list)
            wait_until(lambda: reason_of(outcome_of(again)) == "OK")


def connection_of_its_own(address: str) -> grpc.Channel:
    """Connect without sharing the connection of another channel to the same address."""
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


@contextmanager
def flooded(busy: Busy, callers: int = 10 * PLACES) -> Iterator[list[str]]:
    """Keep so many callers busy for the block, each at once again. Tells what was answered."""
    over = threading.Event()
    outcomes: list[str] = []

    def call() -> None:
        while not over.is_set():
            outcomes.append(reason_of(outcome_of(partial(busy.call, SHOP))))

    with ThreadPoolExecutor(callers) as threads:
        calling = [threads.submit(call) for _ in range(callers)]
        try:
            yield outcomes
        finally:
            over.set()
        for done in calling:
            done.result()


def reflected(channel: grpc.Channel) -> set[str]:
    """Ask which services there are."""
    ask: Any = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    questions = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    [answer] = ask(questions, timeout=10)
    return {service.name for service in answer.list_services_response.service}


def is_paid(answer: Any) -> bool:
    """Say whether the order or the payment is."""
    return answer.status in {order_pb2.ORDER_STATUS_PAID, payment_pb2.PAYMENT_STATUS_SUCCEEDED}

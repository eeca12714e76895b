"""What a Prometheus reads from running services."""

from typing import Any

import grpc
import pytest

import order_service.bootstrap
import payment_service.bootstrap
from service_kit.server import PortTaken, Server
from tests.assertions import refused
from tests.builders import new_key
from tests.checkout import Checkout
from tests.client import ALICE, ORDER_SERVICE_NAME
from tests.scrape import Scrape
from tests.servers.valkey import RedisServer
from tests.system.checkouts import Checkouts
from tests.system.metrics import calls, orders, payments
from tests.system.simultaneously import wait_until
from tests.system.test_health_and_reflection import health


@pytest.mark.requirement("FR-250")
class TestCalls:
    def test_are_counted_by_method_code_and_reason_in_both_services(
        self, measured: Checkout
    ) -> None:
        paid = measured.paid()
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            measured.pay(paid)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            measured.place(items=[])
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            measured.orders(ALICE).FulfillOrder(order_id=paid.id)

        assert calls(orders(measured)) == {
            "CreateOrder OK": 1,
            "CreateOrder INVALID_ARGUMENT VALIDATION_FAILED": 1,
            "PayOrder OK": 1,
            "PayOrder FAILED_PRECONDITION INVALID_TRANSITION": 1,
            "FulfillOrder PERMISSION_DENIED ROLE_NOT_ALLOWED": 1,
        }
        assert calls(payments(measured)) == {"ProcessPayment OK": 1}

    def test_are_timed(self, measured: Checkout) -> None:
        measured.paid()
        seen = orders(measured)
        for method in ("CreateOrder", "PayOrder"):
            outcome = {"method": method, "code": "OK"}
            assert seen.value("checkout_rpc_duration_seconds_count", **outcome) == 1
            seconds = seen.value("checkout_rpc_duration_seconds_sum", **outcome)
            assert seconds is not None
            assert 0 < seconds < 20

    def test_that_repeat_one_are_counted_as_replays(self, measured: Checkout) -> None:
        key = new_key()
        for _ in range(3):
            measured.place(idempotency_key=key)
        seen = orders(measured)
        assert seen.value("checkout_rpc_replays_total", source="database") == 2
        assert seen.value("checkout_rpc_replays_total", source="redis") == 0
        assert calls(seen) == {"CreateOrder OK": 3}

    def test_that_redis_answers_are_counted_as_its(
        self, checkouts: Checkouts, redis_server: RedisServer
    ) -> None:
        with checkouts.running(redis_url=redis_server.url, metrics_port=0) as checkout:
            key = new_key()

            def is_from_redis() -> bool:
                checkout.place(idempotency_key=key)
                return bool(orders(checkout).value("checkout_rpc_replays_total", source="redis"))

            wait_until(is_from_redis)

    def test_of_unknown_methods_make_no_series(self, measured: Checkout) -> None:
        before = series(orders(measured))
        channel: Any = measured.order_channel
        for method in (f"/{ORDER_SERVICE_NAME}/NoSuchRpc", "/no.such.Service/Rpc", "/nothing"):
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary(method)(b"", timeout=20)
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        health(measured.order_channel, "")
        health(measured.order_channel, ORDER_SERVICE_NAME)
        assert series(orders(measured)) == before

    def test_have_no_label_that_a_caller_chooses(self, measured: Checkout) -> None:
        order = measured.paid()
        with refused(grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND"):
            measured.orders().GetOrder(order_id="ord_unheard_of")
        for seen in (orders(measured), payments(measured)):
            for chosen in (order.id, order.payment_transaction_id, "ord_unheard_of", ALICE.id):
                assert chosen not in seen.text


def series(scrape: Scrape) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Every series, by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in scrape.families
        for sample in family.samples
    }


@pytest.mark.requirement("FR-253")
class TestThePort:
    def test_may_be_off(self, checkouts: Checkouts) -> None:
        with checkouts.running() as checkout:
            assert checkout.order_server.metrics_address == ""
            assert checkout.payment_server.metrics_address == ""

    # A channel that is closed the moment it was opened leaves a thread of gRPC's own behind.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    @pytest.mark.parametrize("service", ["ORDER_SERVICE", "PAYMENT_SERVICE"])
    def test_that_is_taken_ends_the_start(self, checkouts: Checkouts, service: str) -> None:
        with checkouts.running(metrics_port=0) as checkout:
            second = self.another(checkout, service)
            with pytest.raises(PortTaken, match=f"{service}_METRICS_PORT chooses another"):
                second.start()
            second.stop()
            # Whoever was there first goes on.
            checkout.paid()
            assert (
                orders(checkout).value(
                    "checkout_rpc_calls_total", method="PayOrder", code="OK", reason=""
                )
                == 1
            )

    def another(self, checkout: Checkout, service: str) -> Server:
        """The same service once more, at a port of its own, with the metrics of the first one."""
        is_orders = service == "ORDER_SERVICE"
        first = checkout.order_server if is_orders else checkout.payment_server
        ports = {"port": 0, "metrics_port": int(first.metrics_address.partition(":")[2])}
        if is_orders:
            return order_service.bootstrap.build(checkout.order_settings.model_copy(update=ports))
        return payment_service.bootstrap.build(checkout.payment_settings.model_copy(update=ports))

    def test_tells_of_its_own_server_only(self, checkouts: Checkouts) -> None:
        """Several run in this process."""
        with (
            checkouts.running(metrics_port=0) as first,
            checkouts.running(metrics_port=0) as second,
        ):
            first.place()
            assert calls(orders(first)) == {"CreateOrder OK": 1}
            assert calls(orders(second)) == {}

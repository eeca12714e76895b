"""How services end: in order, and by force in the middle of a charge."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from deploy.processes import ServiceProcess
from tests.assertions import refused
from tests.builders import new_key
from tests.client import OPERATIONS
from tests.e2e.real_checkout import RealCheckout, log_lines, running
from tests.waiting import eventually

SLOW = {"PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS": "1.5"}
ENDLESS = {"PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS": "6"}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads to call from while something happens to the services."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.mark.requirement("FR-128")
class TestTermination:
    def test_of_the_order_service_lets_a_payment_finish_and_refuses_new_calls(
        self, database_variables: dict[str, str], folder: Path, pool: ThreadPoolExecutor
    ) -> None:
        with running(folder, database_variables | SLOW) as checkout:
            order = checkout.place()
            payment = pool.submit(_pay, checkout, order, new_key())
            checkout.wait_for_charge(order)

            _drain(checkout.pair.order, lambda: checkout.status(order))

            assert not payment.done()
            assert payment.result(20).status == order_pb2.ORDER_STATUS_PAID
            assert checkout.pair.order.wait(20) == 0
            assert checkout.ledger.charges(order.id) == [4000]

    def test_of_the_payment_service_lets_a_payment_finish_and_refuses_new_calls(
        self, folder: Path, pool: ThreadPoolExecutor
    ) -> None:
        with running(folder, SLOW) as checkout:
            order = checkout.place()
            payment = pool.submit(
                checkout.payments().ProcessPayment,
                idempotency_key=new_key(),
                payment_ticket=order.payment_ticket,
                payment_token="tok_slow",
            )
            checkout.wait_for_charge(order)

            _drain(
                checkout.pair.payment,
                lambda: checkout.payments(OPERATIONS).GetPayment(payment_id="pay_unknown"),
            )

            assert not payment.done()
            assert payment.result(20).payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
            assert checkout.pair.payment.wait(20) == 0
            assert checkout.ledger.charges(order.id) == [4000]


class TestCrash:
    @pytest.mark.requirement("FR-105", "FR-213")
    def test_of_the_payment_service_during_a_charge_costs_nothing(
        self, folder: Path, pool: ThreadPoolExecutor
    ) -> None:
        with running(folder, ENDLESS) as checkout:
            order, key = checkout.place(), new_key()
            payment = pool.submit(_pay, checkout, order, key)
            checkout.wait_for_charge(order)

            checkout.pair.payment.kill()
            with refused(grpc.StatusCode.UNAVAILABLE, "PAYMENT_OUTCOME_UNKNOWN"):
                payment.result(20)
            _start_again(checkout.pair.payment)
            paid = _pay_until_answered(checkout, order, key)

            assert paid.status == order_pb2.ORDER_STATUS_PAID
            assert checkout.ledger.charges(order.id) == [4000]

    @pytest.mark.requirement("FR-208")
    def test_of_both_during_a_charge_costs_nothing(
        self, database_variables: dict[str, str], folder: Path, pool: ThreadPoolExecutor
    ) -> None:
        with running(folder, database_variables | ENDLESS) as checkout:
            order, key = checkout.place(), new_key()
            payment = pool.submit(_pay, checkout, order, key)
            checkout.wait_for_charge(order)

            for process in checkout.pair.processes:
                process.kill()
            with pytest.raises(grpc.RpcError) as broken:
                payment.result(20)
            assert _code(broken.value) is grpc.StatusCode.UNAVAILABLE
            for process in checkout.pair.processes:
                _start_again(process)
            paid = _pay_until_answered(checkout, order, key)

            assert paid.status == order_pb2.ORDER_STATUS_PAID
            assert checkout.ledger.charges(order.id) == [4000]
            entries = checkout.orders(OPERATIONS).ListOrderAuditEntries(order_id=order.id).entries
            assert [entry.event_type for entry in entries] == ["order_created", "order_paid"]


def _drain(process: ServiceProcess, call: Callable[[], object]) -> None:
    """End the process in order, and see that it refuses the call meanwhile."""
    process.terminate()
    eventually(lambda: log_lines(process, "draining"))
    # A call that was on its way when the drain began may still be let in.
    eventually(lambda: _is_unavailable(call))


def _is_unavailable(call: Callable[[], object]) -> bool:
    try:
        call()
    except grpc.RpcError as error:
        return _code(error) is grpc.StatusCode.UNAVAILABLE
    return False


def _pay(checkout: RealCheckout, order: order_pb2.Order, key: str) -> order_pb2.Order:
    response = checkout.orders().PayOrder(
        idempotency_key=key, order_id=order.id, payment_token="tok_slow"
    )
    paid: order_pb2.Order = response.order
    return paid


def _pay_until_answered(
    checkout: RealCheckout, order: order_pb2.Order, key: str
) -> order_pb2.Order:
    answers: list[order_pb2.Order] = []

    def answered() -> bool:
        try:
            answers.append(_pay(checkout, order, key))
        except grpc.RpcError as error:
            # For 15 seconds the services leave the charge to whoever began it.
            time.sleep(0.2)
            if _code(error) in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}:
                return False
            raise
        return True

    eventually(answered, seconds=40)
    return answers[0]


def _start_again(process: ServiceProcess) -> None:
    process.start()
    process.wait_until_serving()


def _code(error: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code

"""The gateway has forgotten a key: nobody sends it any more, so no money moves twice."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from checkout.payment.v1 import payment_pb2
from checkout.payment.v1 import payment_service_pb2 as pb
from tests.builders import new_key
from tests.integration.payment_service.desk import Desk, running_desk

PENDING = payment_pb2.PAYMENT_STATUS_PENDING
SUCCEEDED = payment_pb2.PAYMENT_STATUS_SUCCEEDED
FORGOTTEN = timedelta(hours=24, seconds=1)

Ask = Callable[[Desk, pb.ProcessPaymentRequest, str], object]

# Everybody who asks the gateway about a payment again.
ASKERS: dict[str, Ask] = {
    "repeat": lambda desk, request, _: desk.calls.ProcessPayment(request),
    "resolve": lambda desk, request, order_id: desk.resolve(order_id, request.idempotency_key),
    "seal": lambda desk, _, order_id: desk.seal(order_id),
    "worker": lambda desk, *_: work(desk, "ask-about-payments"),
}


@pytest.fixture
def desk(database_url: str, data_dir: Path) -> Iterator[Desk]:
    """The service with its simulated gateway, and a clock that the test may move."""
    with running_desk(data_dir, database_url) as desk:
        yield desk


@pytest.fixture(params=list(ASKERS))
def ask(request: pytest.FixtureRequest) -> Ask:
    """Each of them."""
    return ASKERS[request.param]


def work(desk: Desk, name: str) -> None:
    """Do all that is due: others' tests may have left something behind."""
    while desk.server.workers.run(name):
        pass


def left_pending(desk: Desk, token: str) -> tuple[pb.ProcessPaymentRequest, payment_pb2.Payment]:
    request = desk.process_request(token)
    payment: payment_pb2.Payment = desk.calls.ProcessPayment(request).payment
    assert payment.status == PENDING
    return request, payment


@pytest.mark.requirement("FR-106")
class TestAKeyTheGatewayHasForgotten:
    def test_charges_no_second_time(self, desk: Desk, ask: Ask) -> None:
        request, payment = left_pending(desk, "tok_timeoutAfterCharge")
        [charge] = desk.charges(payment.order_id)
        desk.clock.move(FORGOTTEN)
        ask(desk, request, payment.order_id)
        assert desk.get(payment.id).status == SUCCEEDED
        assert desk.payment_row(payment.id).gateway_reference == charge.reference
        assert desk.charges(payment.order_id) == [charge]

    def test_charges_no_first_time_either(self, desk: Desk, ask: Ask) -> None:
        request, payment = left_pending(desk, "tok_timeoutBeforeCharge")
        desk.clock.move(FORGOTTEN)
        ask(desk, request, payment.order_id)
        assert desk.get(payment.id).status == PENDING
        assert desk.charges(payment.order_id) == []

    @pytest.mark.parametrize("who", ["repeat", "worker"])
    def test_gives_nothing_back_twice(self, desk: Desk, who: str) -> None:
        payment = desk.process("tok_refundTimeoutAfter")
        request = desk.refund_request(payment, 1000, key=new_key())
        assert desk.calls.RefundPayment(request).refund.status == payment_pb2.REFUND_STATUS_PENDING
        [refund] = desk.given_back(payment)
        desk.clock.move(FORGOTTEN)
        if who == "repeat":
            desk.calls.RefundPayment(request)
        else:
            work(desk, "ask-about-refunds")
        [row] = desk.refund_rows(payment.id)
        assert (row.status, row.gateway_reference) == ("succeeded", refund.reference)
        assert desk.given_back(payment) == [refund]

    def test_would_charge_twice_if_it_were_sent(self, database_url: str, data_dir: Path) -> None:
        """Such settings are refused at the start; here they show what the limit is there for."""
        with running_desk(data_dir, database_url, gateway_key_max_age_hours=48) as careless:
            request, payment = left_pending(careless, "tok_timeoutAfterCharge")
            careless.clock.move(FORGOTTEN)
            careless.calls.ProcessPayment(request)
            assert len(careless.charges(payment.order_id)) == 2

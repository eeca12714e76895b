"""ResolvePayment: what became of a call, and it stays so."""

from datetime import timedelta

import grpc
import pytest

from checkout.payment.v1 import payment_pb2
from payment_service.application.ports import Unknown
from service_kit.ids import new_id
from tests.assertions import refused
from tests.builders import new_key
from tests.client import ALICE, OPERATIONS, SHOP, Caller
from tests.integration.payment_service.desk import Desk, meanwhile
from tests.integration.payment_service.scripted_gateway import ScriptedGateway

PENDING = payment_pb2.PAYMENT_STATUS_PENDING
SUCCEEDED = payment_pb2.PAYMENT_STATUS_SUCCEEDED
VOIDED = payment_pb2.PAYMENT_STATUS_VOIDED
BEFORE_ARRIVAL = payment_pb2.VOID_REASON_RESOLVED_BEFORE_ARRIVAL


@pytest.mark.requirement("FR-114")
class TestACallThatHasNotArrived:
    def test_is_voided_and_charges_nothing_when_it_arrives(self, desk: Desk) -> None:
        order_id, key = new_id("ord_"), new_key()
        resolved = desk.resolve(order_id, key)
        assert (resolved.status, resolved.void_reason) == (VOIDED, BEFORE_ARRIVAL)
        assert not resolved.HasField("amount")
        assert not resolved.HasField("refunded_amount")
        assert resolved.customer_id == ""
        late = desk.calls.answer("ProcessPayment", desk.process_request(key=key, order_id=order_id))
        assert late.message.payment == resolved
        assert late.replayed
        assert desk.charges(order_id) == []
        assert desk.events(order_id) == ["payment_voided"]

    def test_matches_whatever_arrives_under_the_key(self, desk: Desk) -> None:
        order_id, key = new_id("ord_"), new_key()
        resolved = desk.resolve(order_id, key)
        for fields in ({"order_id": order_id}, {"order_id": order_id, "minor_units": 1}, {}):
            assert desk.process(key=key, **fields) == resolved

    def test_is_voided_once(self, desk: Desk) -> None:
        order_id, key = new_id("ord_"), new_key()
        assert desk.resolve(order_id, key) == desk.resolve(order_id, key)
        assert len(desk.payment_rows(order_id)) == 1
        assert desk.events(order_id) == ["payment_voided"]

    def test_leaves_the_order_free_for_another_key(self, desk: Desk) -> None:
        order_id = new_id("ord_")
        desk.resolve(order_id, new_key())
        assert desk.process(order_id=order_id).status == SUCCEEDED

    def test_of_somebody_else_is_not_touched(self, desk: Desk) -> None:
        order_id, key = new_id("ord_"), new_key()
        desk.resolve(order_id, key)
        request = desk.process_request(key=key, order_id=order_id)
        assert desk.as_(SHOP).ProcessPayment(request).payment.status == SUCCEEDED

    def test_is_seen_by_no_customer(self, desk: Desk) -> None:
        resolved = desk.resolve(new_id("ord_"), new_key())
        with refused(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND"):
            desk.as_(ALICE).GetPayment(payment_id=resolved.id)


@pytest.mark.requirement("FR-115")
class TestACallThatHasArrived:
    @pytest.mark.parametrize("token", ["tok_visa", "tok_chargeDeclined"])
    def test_is_told_as_it_is(self, desk: Desk, token: str) -> None:
        key = new_key()
        payment = desk.process(token, key=key)
        assert desk.resolve(payment.order_id, key) == payment

    @pytest.mark.parametrize("token", ["tok_timeoutBeforeCharge", "tok_timeoutAfterCharge"])
    def test_is_asked_about_again_if_it_is_pending(self, desk: Desk, token: str) -> None:
        key = new_key()
        request = desk.process_request(token, key=key)
        pending = desk.calls.ProcessPayment(request).payment
        resolved = desk.resolve(pending.order_id, key)
        assert resolved.status == SUCCEEDED
        assert len(desk.charges(pending.order_id)) == 1
        repeat = desk.calls.answer("ProcessPayment", request)
        assert repeat.message.payment == resolved
        assert repeat.replayed

    def test_is_pending_while_the_gateway_does_not_say(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        key = new_key()
        gateway.answers.extend([Unknown(), Unknown()])
        payment = scripted.process(key=key)
        assert scripted.resolve(payment.order_id, key).status == PENDING
        assert len(gateway.asked) == 2

    def test_is_not_asked_about_by_two_at_once(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        key, held = new_key(), gateway.hold_next()
        order_id = new_id("ord_")
        with meanwhile(lambda: scripted.process(key=key, order_id=order_id)):
            held.wait_until_asked()
            assert scripted.resolve(order_id, key).status == PENDING
            assert len(gateway.asked) == 1
            scripted.clock.move(timedelta(seconds=16))
            assert scripted.resolve(order_id, key).status == SUCCEEDED
            held.go_on()

    def test_of_another_order_is_a_mismatch(self, desk: Desk) -> None:
        key, order_id = new_key(), new_id("ord_")
        payment = desk.process(key=key)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_MISMATCH") as refusal:
            desk.resolve(order_id, key)
        assert refusal.metadata == {"order_id": order_id, "payment_id": payment.id}
        assert desk.payment_rows(order_id) == []
        assert desk.events(order_id) == []


@pytest.mark.parametrize("caller", [ALICE, SHOP, OPERATIONS], ids=lambda caller: caller.role)
def test_only_the_order_service_may(desk: Desk, caller: Caller) -> None:
    with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
        desk.as_(caller).ResolvePayment(order_id="ord_1", payment_idempotency_key="k")


def test_a_short_deadline_starts_nothing(desk: Desk) -> None:
    order_id = new_id("ord_")
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT"):
        desk.calls.ResolvePayment(order_id=order_id, payment_idempotency_key="k", timeout=0.45)
    assert desk.payment_rows(order_id) == []

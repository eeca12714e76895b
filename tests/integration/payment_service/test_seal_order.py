"""SealOrder: from the moment it commits, no payment of the order starts."""

from datetime import timedelta

import grpc
import pytest

from checkout.payment.v1 import payment_pb2
from payment_service.application.ports import Declined, Unknown
from service_kit.ids import new_id
from tests.assertions import refused
from tests.client import ALICE, OPERATIONS, SHOP, Caller
from tests.integration.payment_service.desk import Desk, meanwhile
from tests.integration.payment_service.scripted_gateway import ScriptedGateway

PENDING = payment_pb2.PAYMENT_STATUS_PENDING
SUCCEEDED = payment_pb2.PAYMENT_STATUS_SUCCEEDED
FAILED = payment_pb2.PAYMENT_STATUS_FAILED
VOIDED = payment_pb2.PAYMENT_STATUS_VOIDED


class TestTheReply:
    def test_is_empty_without_a_payment(self, desk: Desk) -> None:
        order_id = new_id("ord_")
        assert desk.seal(order_id) is None
        [entry] = desk.history(order_id)
        assert (entry.event_type, entry.payment_id) == ("order_sealed", "")
        assert entry.from_status == entry.to_status == ""

    def test_is_the_payment_that_succeeded(self, desk: Desk) -> None:
        payment = desk.process()
        assert desk.seal(payment.order_id) == payment
        entry = desk.history(payment.order_id)[-1]
        assert (entry.event_type, entry.payment_id) == ("order_sealed", payment.id)
        assert entry.from_status == entry.to_status == "succeeded"

    def test_is_empty_after_a_decline(self, desk: Desk) -> None:
        payment = desk.process("tok_chargeDeclined")
        assert desk.seal(payment.order_id) is None

    def test_is_the_same_again_and_nothing_changes(self, desk: Desk) -> None:
        payment = desk.process()
        assert desk.seal(payment.order_id) == desk.seal(payment.order_id)
        assert desk.events(payment.order_id).count("order_sealed") == 1


class TestAPendingPayment:
    def test_is_asked_about_again(self, desk: Desk) -> None:
        pending = desk.process("tok_timeoutAfterCharge")
        sealed = desk.seal(pending.order_id)
        assert sealed is not None
        assert (sealed.id, sealed.status) == (pending.id, SUCCEEDED)
        assert len(desk.charges(pending.order_id)) == 1

    def test_that_turns_out_declined_leaves_no_payment(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        gateway.answers.extend([Unknown(), Declined("card_declined")])
        pending = scripted.process()
        assert scripted.seal(pending.order_id) is None
        assert scripted.get(pending.id).status == FAILED

    def test_is_sealed_at_once_while_the_gateway_is_asked(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        order_id, held = new_id("ord_"), gateway.hold_next()
        with meanwhile(lambda: scripted.process(order_id=order_id)) as first:
            held.wait_until_asked()
            sealed = scripted.seal(order_id)
            assert sealed is not None
            assert sealed.status == PENDING
            assert len(gateway.asked) == 1
            late = scripted.process(order_id=order_id)
            assert late.void_reason == payment_pb2.VOID_REASON_ORDER_SEALED
            held.go_on()
        # A seal ends what has not begun; what has begun ends as the gateway says.
        assert first.result().status == SUCCEEDED
        assert scripted.seal(order_id) == first.result()

    def test_is_taken_over_when_its_lease_is_over(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        order_id, held = new_id("ord_"), gateway.hold_next()
        with meanwhile(lambda: scripted.process(order_id=order_id)):
            held.wait_until_asked()
            scripted.clock.move(timedelta(seconds=16))
            sealed = scripted.seal(order_id)
            assert sealed is not None
            assert sealed.status == SUCCEEDED
            held.go_on()
        assert [key for _, key in gateway.asked] == [sealed.id] * 2


@pytest.mark.parametrize("caller", [ALICE, SHOP, OPERATIONS], ids=lambda caller: caller.role)
def test_only_the_order_service_may(desk: Desk, caller: Caller) -> None:
    with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
        desk.as_(caller).SealOrder(order_id="ord_1")


def test_a_short_deadline_starts_nothing(desk: Desk) -> None:
    order_id = new_id("ord_")
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT"):
        desk.calls.SealOrder(order_id=order_id, timeout=0.45)
    assert desk.process(order_id=order_id).status == SUCCEEDED

"""A confirmation that is lost, and time that goes by: money moves once all the same."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from checkout.payment.v1 import payment_pb2
from checkout.payment.v1 import payment_service_pb2 as pb
from payment_service.application.ports import PaymentRecord, RefundRecord, Work
from payment_service.rpc.servicer import UseCases
from payment_service.storage.store import SqlStore, StoredWork
from service_kit.call import serving
from service_kit.database import RaceLost
from service_kit.idempotency.record import KeyedRequest
from service_kit.ids import new_id
from service_kit.recent import Recent
from tests.builders import CHAIN_KEY, money, new_request
from tests.integration.payment_service.desk import Desk
from tests.integration.payment_service.scripted_gateway import ScriptedGateway
from tests.unit.payment_service.wiring import new_call, new_codec, wired

T = TypeVar("T")

PENDING = payment_pb2.PAYMENT_STATUS_PENDING
SUCCEEDED = payment_pb2.PAYMENT_STATUS_SUCCEEDED
VOIDED = payment_pb2.PAYMENT_STATUS_VOIDED


class ForgetfulStore(SqlStore):
    """Loses the confirmation of every commit, and so runs every transaction again."""

    def transact(self, work: Callable[[Work], T]) -> T:
        super().transact(work)
        return super().transact(work)

    def change(self, work: Callable[[Work], T]) -> T:
        super().change(work)
        return super().change(work)


class Forgetful:
    """The use cases over the forgetful store."""

    def __init__(self, desk: Desk, gateway: ScriptedGateway) -> None:
        self.desk = desk
        self.codec = new_codec()
        self.use_cases: UseCases = wired(
            ForgetfulStore(desk.database, chain_key=CHAIN_KEY), gateway, self.codec
        )

    def process(self, order_id: str) -> payment_pb2.Payment:
        request = new_request("ProcessPayment", payment_ticket=order_id, payment_token="tok_visa")
        with serving(new_call("ProcessPayment")) as call:
            command = self.codec.process_payment(request, call)
            reply = self.use_cases.process_payment(command, call)
            assert reply.replayed_from == ""
            return reply.message(pb.ProcessPaymentResponse).payment

    def refund(self, payment_id: str, minor_units: int) -> Any:
        request = new_request("RefundPayment", payment_id=payment_id, amount=money(minor_units))
        with serving(new_call("RefundPayment")) as call:
            command = self.codec.refund_payment(request, call)
            return self.use_cases.refund_payment(command, call)


class TestALostConfirmation:
    @pytest.fixture
    def forgetful(self, desk: Desk, gateway: ScriptedGateway) -> Forgetful:
        return Forgetful(desk, gateway)

    def test_of_a_payment_is_recognised(
        self, forgetful: Forgetful, gateway: ScriptedGateway
    ) -> None:
        order_id = new_id("ord_")
        assert forgetful.process(order_id).status == SUCCEEDED
        assert len(gateway.asked) == 1
        assert forgetful.desk.events(order_id) == ["payment_requested", "payment_succeeded"]

    def test_of_a_voided_payment_is_recognised(self, forgetful: Forgetful) -> None:
        order_id = new_id("ord_")
        forgetful.process(order_id)
        assert forgetful.process(order_id).status == VOIDED
        assert forgetful.desk.events(order_id).count("payment_voided") == 1

    def test_of_a_refund_is_recognised(
        self, forgetful: Forgetful, gateway: ScriptedGateway
    ) -> None:
        payment = forgetful.process(new_id("ord_"))
        reply = forgetful.refund(payment.id, 1500)
        assert reply.replayed_from == ""
        refunded = pb.RefundPaymentResponse.FromString(reply.body)
        assert refunded.payment.refunded_amount == money(1500)
        assert [question for question, _ in gateway.asked] == ["charge", "refund"]
        assert forgetful.desk.events(payment.order_id).count("refund_succeeded") == 1

    def test_of_a_refused_refund_is_recognised(self, forgetful: Forgetful) -> None:
        payment = forgetful.process(new_id("ord_"))
        reply = forgetful.refund(payment.id, 4001)
        assert (reply.ok, reply.replayed_from) == (False, "")
        assert forgetful.desk.events(payment.order_id).count("refund_refused") == 1


class TestTime:
    def test_that_went_by_while_the_intent_was_recorded_leaves_the_gateway_unasked(
        self, desk: Desk, gateway: ScriptedGateway
    ) -> None:
        codec = new_codec()
        use_cases = wired(SqlStore(desk.database, chain_key=CHAIN_KEY), gateway, codec)
        order_id = new_id("ord_")
        request = new_request("ProcessPayment", payment_ticket=order_id, payment_token="tok_visa")

        class Dwindling:
            """Enough time when the call begins, and none a moment later."""

            def __init__(self) -> None:
                self._seconds = [5.0, 5.0, 0.4]

            def remaining_seconds(self) -> float:
                return self._seconds.pop(0)

        with serving(new_call("ProcessPayment")) as call:
            command = codec.process_payment(request, call)
            reply = use_cases.process_payment(command, Dwindling())
            payment = reply.message(pb.ProcessPaymentResponse).payment
            assert (payment.status, gateway.asked) == (PENDING, [])
            # Its lease is over: a repeat asks at once.
            again = use_cases.process_payment(command, call).message(pb.ProcessPaymentResponse)
        assert again.payment.status == SUCCEEDED
        assert gateway.asked == [("charge", payment.id)]


class TestARowThatIsNotAsItWas:
    """What the locks rule out is refused all the same, and run again."""

    def test_a_final_payment_is_not_leased_or_settled(self, desk: Desk) -> None:
        payment = desk.process()

        def record(work: Work) -> PaymentRecord:
            found = work.payments.get(payment.id)
            assert found is not None
            return found

        final = SqlStore(desk.database, chain_key=CHAIN_KEY).read(record)
        with desk.database.engine.connect() as connection:
            work = StoredWork(connection, CHAIN_KEY, Recent())
            with pytest.raises(RaceLost):
                work.payments.lease(payment.id, desk.clock.now())
            with pytest.raises(RaceLost):
                work.payments.settle(final)

    def test_a_final_refund_is_not_leased_or_settled(self, desk: Desk) -> None:
        refund = desk.refund(desk.process(), 100).refund

        def record(work: Work) -> RefundRecord:
            found = work.refunds.get(refund.id)
            assert found is not None
            return found

        final = SqlStore(desk.database, chain_key=CHAIN_KEY).read(record)
        assert isinstance(final.request, KeyedRequest)
        with desk.database.engine.connect() as connection:
            work = StoredWork(connection, CHAIN_KEY, Recent())
            with pytest.raises(RaceLost):
                work.refunds.lease(refund.id, desk.clock.now())
            with pytest.raises(RaceLost):
                work.refunds.settle(final)

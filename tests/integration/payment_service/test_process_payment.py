"""ProcessPayment: the money of a ticket is taken once per key and once per order."""

from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from checkout.payment.v1 import payment_pb2
from checkout.payment.v1 import payment_service_pb2 as pb
from payment_service.application.ports import Declined, NotFound, Succeeded, Unknown
from service_kit.ids import new_id
from tests.assertions import refused
from tests.builders import money, new_key
from tests.client import ALICE, BOB, SHOP
from tests.integration.payment_service.desk import Desk, meanwhile, running_desk, ticket
from tests.integration.payment_service.scripted_gateway import ScriptedGateway, own_references

PENDING = payment_pb2.PAYMENT_STATUS_PENDING
SUCCEEDED = payment_pb2.PAYMENT_STATUS_SUCCEEDED
FAILED = payment_pb2.PAYMENT_STATUS_FAILED
VOIDED = payment_pb2.PAYMENT_STATUS_VOIDED


class TestTheFirstCall:
    def test_charges_what_the_ticket_states(self, desk: Desk) -> None:
        order_id = new_id("ord_")
        payment = desk.process(order_id=order_id, minor_units=2350, currency_code="JPY")
        assert payment.status == SUCCEEDED
        assert (payment.order_id, payment.customer_id) == (order_id, "alice")
        assert payment.amount == money(2350, "JPY")
        assert payment.refunded_amount == money(0, "JPY")
        assert payment.gateway == "simulated"
        [charge] = desk.charges(order_id)
        assert (charge.key, charge.amount_minor, charge.currency_code) == (payment.id, 2350, "JPY")

    def test_records_what_happened_in_order(self, desk: Desk) -> None:
        payment = desk.process()
        requested, succeeded = desk.history(payment.order_id)
        assert (requested.event_type, requested.from_status, requested.to_status) == (
            "payment_requested",
            "",
            "pending",
        )
        assert (succeeded.event_type, succeeded.from_status, succeeded.to_status) == (
            "payment_succeeded",
            "pending",
            "succeeded",
        )
        assert requested.actor_id == succeeded.actor_id == "order-service"
        assert requested.sequence < succeeded.sequence

    def test_answers_ok_with_the_decline_code_when_the_gateway_declines(self, desk: Desk) -> None:
        payment = desk.process("tok_chargeDeclinedInsufficientFunds")
        assert (payment.status, payment.decline_code) == (FAILED, "insufficient_funds")
        assert desk.charges(payment.order_id) == []
        assert desk.events(payment.order_id) == ["payment_requested", "payment_failed"]
        assert desk.history(payment.order_id)[1].reason == "insufficient_funds"

    def test_a_declined_order_can_be_paid_with_another_token(self, desk: Desk) -> None:
        declined = desk.process("tok_chargeDeclined")
        payment = desk.process(order_id=declined.order_id)
        assert payment.status == SUCCEEDED

    def test_forgets_the_token_once_the_payment_is_final(self, desk: Desk) -> None:
        pending = desk.process("tok_timeoutBeforeCharge")
        assert desk.payment_row(pending.id).payment_token == "tok_timeoutBeforeCharge"
        for token in ("tok_visa", "tok_chargeDeclined"):
            assert desk.payment_row(desk.process(token).id).payment_token is None

    def test_answers_voided_when_another_payment_is_live(self, desk: Desk) -> None:
        first = desk.process()
        second = desk.process(order_id=first.order_id)
        assert second.status == VOIDED
        assert second.void_reason == payment_pb2.VOID_REASON_ANOTHER_PAYMENT_IS_LIVE
        assert second.gateway == ""
        assert len(desk.charges(first.order_id)) == 1
        assert desk.history(first.order_id)[2].reason == "another_payment_is_live"

    def test_answers_voided_when_the_order_is_sealed(self, desk: Desk) -> None:
        order_id = new_id("ord_")
        desk.seal(order_id)
        payment = desk.process(order_id=order_id)
        assert payment.status == VOIDED
        assert payment.void_reason == payment_pb2.VOID_REASON_ORDER_SEALED
        assert desk.charges(order_id) == []


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "forged",
        [
            "not a token",
            "a.b.c",
            ticket(key=b"another secret, 32 bytes or more!"),
            ticket(algorithm="none", key=None),
            ticket(iss="somebody"),
            ticket(aud="somebody"),
            ticket(exp=4102444800),
            "ü.ü.ü",
        ],
        ids=[
            "no-jwt",
            "no-json",
            "signature",
            "unsigned",
            "issuer",
            "audience",
            "claim",
            "encoding",
        ],
    )
    def test_a_ticket_that_is_not_the_order_services(self, desk: Desk, forged: str) -> None:
        request = pb.ProcessPaymentRequest(
            idempotency_key=new_key(), payment_ticket=forged, payment_token="tok_visa"
        )
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "PAYMENT_TICKET_INVALID") as refusal:
            desk.calls.ProcessPayment(request)
        assert refusal.metadata == {"field": "payment_ticket"}
        assert set(refusal.violations) == {"payment_ticket"}

    def test_a_ticket_of_another_customer(self, desk: Desk) -> None:
        request = desk.process_request()
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "PAYMENT_TICKET_INVALID"):
            desk.as_(BOB).ProcessPayment(request)
        assert desk.as_(ALICE).ProcessPayment(request).payment.status == SUCCEEDED

    def test_a_backend_may_use_any_customers_ticket(self, desk: Desk) -> None:
        assert desk.as_(SHOP).ProcessPayment(desk.process_request()).payment.status == SUCCEEDED

    def test_a_token_that_the_gateway_does_not_know(self, desk: Desk) -> None:
        order_id = new_id("ord_")
        request = desk.process_request("tok_visaa", order_id=order_id)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            desk.calls.ProcessPayment(request)
        assert "tok_chargeDeclinedLostCard" in refusal.violations["payment_token"]
        assert "tok_visaa" not in str(refusal.status)
        assert desk.payment_rows(order_id) == []

    def test_everything_that_is_missing_at_once(self, desk: Desk) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            desk.calls.ProcessPayment(pb.ProcessPaymentRequest())
        assert set(refusal.violations) == {"idempotency_key", "payment_ticket", "payment_token"}

    def test_a_deadline_that_leaves_no_time_for_the_gateway(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        order_id = new_id("ord_")
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT") as refusal:
            scripted.calls.ProcessPayment(scripted.process_request(order_id=order_id), timeout=0.45)
        assert refusal.metadata == {"minimum_seconds": "0.5"}
        assert gateway.asked == []
        assert scripted.payment_rows(order_id) == []


class TestARepeat:
    @pytest.mark.parametrize("token", ["tok_visa", "tok_chargeDeclined"])
    def test_gets_the_first_reply_byte_for_byte(self, desk: Desk, token: str) -> None:
        request = desk.process_request(token)
        first = desk.calls.answer("ProcessPayment", request)
        second = desk.calls.answer("ProcessPayment", request)
        assert (first.replayed, second.replayed) == (False, True)
        assert second.body == first.body
        assert desk.payment_row(first.message.payment.id).reply == first.body

    def test_gets_a_voided_reply_again_although_the_order_is_free_by_now(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        gateway.answers.append(Unknown())
        live_request = scripted.process_request()
        live = scripted.calls.ProcessPayment(live_request).payment
        request = scripted.process_request(order_id=live.order_id)
        first = scripted.calls.ProcessPayment(request)
        gateway.answers.append(Declined("card_declined"))
        assert scripted.calls.ProcessPayment(live_request).payment.status == FAILED
        second = scripted.calls.answer("ProcessPayment", request)
        assert first.payment.status == VOIDED
        assert second.replayed
        assert second.message == first

    def test_gets_the_reply_as_it_was_although_the_payment_was_refunded(self, desk: Desk) -> None:
        request = desk.process_request()
        first = desk.calls.ProcessPayment(request)
        desk.refund(first.payment, 1000)
        assert desk.calls.ProcessPayment(request) == first
        assert desk.get(first.payment.id).refunded_amount == money(1000)

    def test_of_another_process_gets_the_same_bytes(
        self, desk: Desk, database_url: str, data_dir: Path
    ) -> None:
        request = desk.process_request()
        first = desk.calls.answer("ProcessPayment", request)
        with running_desk(data_dir, database_url, migrate=False) as other:
            second = other.calls.answer("ProcessPayment", request)
        assert second.replayed
        assert second.body == first.body

    @pytest.mark.parametrize(
        "changed",
        [{"minor_units": 4001}, {"currency_code": "USD"}, {"order_id": "ord_somebody_elses"}, {}],
        ids=["amount", "currency", "order", "token"],
    )
    def test_with_other_fields_is_refused_and_changes_nothing(
        self, desk: Desk, changed: dict[str, str]
    ) -> None:
        key, order_id = new_key(), new_id("ord_")
        first = desk.process(key=key, order_id=order_id)
        token = "tok_visa" if changed else "tok_amex"
        request = desk.process_request(token, key=key, **{"order_id": order_id, **changed})
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED") as refusal:
            desk.calls.ProcessPayment(request)
        assert refusal.metadata == {"method": "ProcessPayment"}
        assert desk.get(first.id) == first
        assert desk.payment_rows("ord_somebody_elses") == []

    def test_is_another_callers_own_affair(self, desk: Desk) -> None:
        key = new_key()
        first = desk.process(key=key)
        second = desk.as_(SHOP).ProcessPayment(desk.process_request(key=key)).payment
        assert second.id != first.id
        assert second.status == SUCCEEDED


class TestAnUnknownOutcome:
    @pytest.mark.parametrize(
        "token", ["tok_timeoutBeforeCharge", "tok_timeoutAfterCharge", "tok_errorThenSuccess"]
    )
    def test_is_pending_until_a_repeat_finds_out_and_charges_once(
        self, desk: Desk, token: str
    ) -> None:
        request = desk.process_request(token)
        pending = desk.calls.answer("ProcessPayment", request)
        assert pending.message.payment.status == PENDING
        final = desk.calls.answer("ProcessPayment", request)
        assert final.message.payment.status == SUCCEEDED
        assert not final.replayed
        assert final.message.payment.id == pending.message.payment.id
        assert len(desk.charges(final.message.payment.order_id)) == 1
        assert desk.events(final.message.payment.order_id) == [
            "payment_requested",
            "payment_succeeded",
        ]

    def test_of_a_gateway_too_slow_for_the_caller_is_found_by_a_repeat(self, desk: Desk) -> None:
        # Half a second for the gateway's 0.4: less what is kept to write the outcome down.
        request = desk.process_request("tok_slow")
        assert desk.calls.ProcessPayment(request, timeout=0.65).payment.status == PENDING
        final = desk.calls.ProcessPayment(request).payment
        assert final.status == SUCCEEDED
        assert len(desk.charges(final.order_id)) == 1

    def test_of_a_slow_gateway_is_waited_for(self, desk: Desk) -> None:
        assert desk.process("tok_slow").status == SUCCEEDED

    def test_keeps_the_order_taken(self, desk: Desk) -> None:
        pending = desk.process("tok_timeoutBeforeCharge")
        assert desk.process(order_id=pending.order_id).status == VOIDED


class TestWhileTheGatewayIsAsked:
    def test_no_transaction_is_open(self, scripted: Desk, gateway: ScriptedGateway) -> None:
        payment = scripted.process()
        scripted.refund(payment, 100)
        assert [question for question, _ in gateway.asked] == ["charge", "refund"]
        assert not gateway.asked_inside_a_transaction

    def test_other_orders_go_on_and_a_repeat_is_pending_without_asking(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        request, held = scripted.process_request(), gateway.hold_next()
        with meanwhile(lambda: scripted.calls.ProcessPayment(request)) as first:
            held.wait_until_asked()
            assert scripted.calls.ProcessPayment(request).payment.status == PENDING
            assert scripted.seal(new_id("ord_")) is None
            assert len(gateway.asked) == 1
            held.go_on()
        assert first.result().payment.status == SUCCEEDED
        assert scripted.calls.ProcessPayment(request) == first.result()

    def test_the_wait_is_what_the_caller_leaves_and_at_most_seven_seconds(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        scripted.calls.ProcessPayment(scripted.process_request(), timeout=3)
        scripted.calls.ProcessPayment(scripted.process_request(), timeout=25)
        patient, capped = gateway.timeouts
        assert 2.0 < patient < 2.8
        assert capped == 7.0


class TestALease:
    @pytest.fixture
    def left_behind(self, scripted: Desk, gateway: ScriptedGateway) -> pb.ProcessPaymentRequest:
        """A request whose first call died while it asked the gateway."""
        request = scripted.process_request()
        gateway.answers.append(Unknown())
        payment = scripted.calls.ProcessPayment(request).payment
        scripted.lease(payment.id)
        gateway.asked.clear()
        return request

    def test_keeps_a_repeat_from_asking_until_it_is_over(
        self, scripted: Desk, gateway: ScriptedGateway, left_behind: pb.ProcessPaymentRequest
    ) -> None:
        scripted.clock.move(timedelta(seconds=7))
        assert scripted.calls.ProcessPayment(left_behind).payment.status == PENDING
        assert gateway.asked == []
        scripted.clock.move(timedelta(seconds=2))
        final = scripted.calls.ProcessPayment(left_behind).payment
        assert final.status == SUCCEEDED
        assert gateway.asked == [("charge", final.id)]

    def test_further_ahead_than_its_length_counts_as_over(
        self, scripted: Desk, left_behind: pb.ProcessPaymentRequest
    ) -> None:
        # The clock that wrote it has been set back since.
        scripted.clock.move(timedelta(hours=-1))
        assert scripted.calls.ProcessPayment(left_behind).payment.status == SUCCEEDED

    def test_of_somebody_else_is_not_ended_by_a_late_unknown_answer(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        request = scripted.process_request()
        gateway.answers.extend([Unknown(), Unknown()])
        slow, slower = gateway.hold_next(), gateway.hold_next()
        with meanwhile(lambda: scripted.calls.ProcessPayment(request)) as first:
            slow.wait_until_asked()
            scripted.clock.move(timedelta(seconds=16))
            with meanwhile(lambda: scripted.calls.ProcessPayment(request)) as second:
                slower.wait_until_asked()
                slow.go_on()
                assert first.result().payment.status == PENDING
                # The second call still asks, so nobody else does.
                assert scripted.calls.ProcessPayment(request).payment.status == PENDING
                assert len(gateway.asked) == 2
                slower.go_on()
        assert second.result().payment.status == PENDING
        assert scripted.calls.ProcessPayment(request).payment.status == SUCCEEDED


@pytest.mark.requirement("FR-106")
class TestAKeyTheGatewayMayHaveForgotten:
    def test_is_only_looked_up_and_not_found_changes_nothing(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        request, reference = scripted.process_request(), new_id("ch_")
        gateway.answers.extend([Unknown(), NotFound(), NotFound(), Succeeded(reference)])
        payment = scripted.calls.ProcessPayment(request).payment
        scripted.clock.move(timedelta(hours=12, seconds=1))
        for _ in range(2):
            assert scripted.calls.ProcessPayment(request).payment.status == PENDING
        assert scripted.calls.ProcessPayment(request).payment.status == SUCCEEDED
        assert [q for q, _ in gateway.asked] == ["charge", *["find_charge"] * 3]
        assert scripted.payment_row(payment.id).gateway_reference == reference

    def test_is_sent_until_then(self, scripted: Desk, gateway: ScriptedGateway) -> None:
        request = scripted.process_request()
        gateway.answers.append(Unknown())
        scripted.calls.ProcessPayment(request)
        scripted.clock.move(timedelta(hours=11, minutes=59))
        assert scripted.calls.ProcessPayment(request).payment.status == SUCCEEDED
        assert [q for q, _ in gateway.asked] == ["charge", "charge"]


class TestAnOutcomeThatCannotBeWritten:
    def test_leaves_the_payment_pending_and_is_found_later(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        # The database refuses the same reference twice, as it would a race that is lost for good.
        taken = scripted.payment_row(scripted.process().id).gateway_reference
        gateway.answers.append(Succeeded(taken))
        request = scripted.process_request()
        assert scripted.calls.ProcessPayment(request).payment.status == PENDING
        scripted.clock.move(timedelta(seconds=16))
        assert scripted.calls.ProcessPayment(request).payment.status == SUCCEEDED


@pytest.mark.requirement("FR-124")
class TestAnAnswerThatContradictsASettledPayment:
    @pytest.mark.parametrize(
        ("settled", "late", "reason"),
        [
            (Succeeded("ref-1"), Declined("card_declined"), "gateway_says_failed"),
            (Declined("card_declined"), Succeeded("ref-1"), "gateway_says_succeeded"),
            (Succeeded("ref-1"), Succeeded("ref-2"), "gateway_moved_money_twice"),
            (Succeeded("ref-1"), Succeeded("ref-1"), ""),
            (Declined("card_declined"), Declined("lost_card"), ""),
            (Succeeded("ref-1"), Unknown(), ""),
        ],
        ids=["declined", "charged", "twice", "same", "another-code", "unknown"],
    )
    def test_is_written_down_and_changes_nothing_else(
        self,
        scripted: Desk,
        gateway: ScriptedGateway,
        settled: Succeeded | Declined,
        late: Succeeded | Declined | Unknown,
        reason: str,
    ) -> None:
        request, held = scripted.process_request(), gateway.hold_next()
        gateway.answers.extend(own_references(late, settled))
        with meanwhile(lambda: scripted.calls.ProcessPayment(request)):
            held.wait_until_asked()
            # Somebody takes over once the lease is over, and is answered at once.
            scripted.clock.move(timedelta(seconds=16))
            final = scripted.calls.ProcessPayment(request).payment
            assert final.status != PENDING
            held.go_on()
        assert scripted.get(final.id) == final
        entries = scripted.history(final.order_id)
        found = [e for e in entries if e.event_type == "gateway_discrepancy_found"]
        assert [entry.reason for entry in found] == ([reason] if reason else [])
        for entry in found:
            assert entry.from_status == entry.to_status != "pending"

"""Money: never taken twice, never lost, never attached to the wrong order."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from payment_service.gateways.simulated_tokens import TOKENS
from tests.assertions import Refusal, refused
from tests.builders import money, new_key
from tests.checkout import Checkout
from tests.client import ALICE, BOB, OPERATIONS, SHOP
from tests.system.checkouts import Checkouts
from tests.system.simultaneously import final_outcome, wait_until

TOTAL = 4000

DECLINED = {name: t.charge_decline_code for name, t in TOKENS.items() if t.charge_decline_code}
# No answer comes to the first request.
LOST = ["tok_timeoutBeforeCharge", "tok_timeoutAfterCharge", "tok_errorThenSuccess"]
APPROVED = [name for name in TOKENS if name not in DECLINED and name not in LOST]


def pay_request(order: order_pb2.Order, token: str = "tok_visa") -> dict[str, Any]:
    """The fields of a PayOrder call that can be sent again."""
    return {"idempotency_key": new_key(), "order_id": order.id, "payment_token": token}


def outcome_unknown(checkout: Checkout, rpc: str, fields: dict[str, Any]) -> Refusal:
    """Make a call whose outcome is not known."""
    client = checkout.orders(OPERATIONS if rpc == "RefundOrder" else ALICE)
    with refused(grpc.StatusCode.UNAVAILABLE, "PAYMENT_OUTCOME_UNKNOWN") as refusal:
        client.answer(rpc, **fields)
    return refusal


def left_pending(checkout: Checkout, token: str = "tok_timeoutBeforeCharge") -> order_pb2.Order:
    """An order whose charge is under way, and nobody asks any more."""
    order = checkout.place()
    outcome_unknown(checkout, "PayOrder", pay_request(order, token))
    return checkout.order(order.id)


class TestPayOrder:
    @pytest.mark.requirement("FR-211", "FR-125")
    @pytest.mark.parametrize("token", APPROVED)
    def test_charges_the_total_once(self, checkout: Checkout, token: str) -> None:
        order = checkout.place()
        paid = checkout.pay(order, token)
        assert paid.status == order_pb2.ORDER_STATUS_PAID
        assert not paid.payment_ticket
        payment = checkout.payment(paid.payment_transaction_id)
        assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
        assert (payment.order_id, payment.amount) == (order.id, order.total_amount)
        assert checkout.ledger.charges(order.id) == [TOTAL]
        assert checkout.events(order.id) == ["order_created", "order_paid"]

    @pytest.mark.requirement("FR-212", "FR-103", "FR-125")
    @pytest.mark.parametrize(("token", "decline_code"), DECLINED.items())
    def test_that_is_declined_takes_nothing_and_lets_another_key_try(
        self, checkout: Checkout, token: str, decline_code: str
    ) -> None:
        order = checkout.place()
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_DECLINED") as refusal:
            checkout.pay(order, token)
        payment = checkout.payment(refusal.metadata["payment_id"])
        assert refusal.metadata == {
            "order_id": order.id,
            "payment_id": payment.id,
            "decline_code": decline_code,
        }
        assert payment.status == payment_pb2.PAYMENT_STATUS_FAILED
        assert payment.decline_code == decline_code
        assert checkout.ledger.charges(order.id) == []
        assert checkout.order(order.id).status == order_pb2.ORDER_STATUS_CREATED
        assert checkout.order(order.id).etag == order.etag
        checkout.pay(order)
        assert checkout.ledger.charges(order.id) == [TOTAL]
        assert checkout.events(order.id) == ["order_created", "payment_failed", "order_paid"]

    @pytest.mark.requirement("FR-213", "FR-105")
    @pytest.mark.parametrize("token", LOST)
    def test_whose_answer_is_lost_finds_out_with_the_same_key(
        self, each_checkout: Checkout, token: str
    ) -> None:
        checkout, order = each_checkout, each_checkout.place()
        request = pay_request(order, token)
        refusal = outcome_unknown(checkout, "PayOrder", request)
        assert refusal.metadata == {"order_id": order.id, "operation": "charge"}
        pending = checkout.order(order.id)
        assert pending.pending_operation.kind == order_pb2.PAYMENT_OPERATION_KIND_CHARGE
        assert pending.pending_operation.start_time.ToDatetime() >= order.create_time.ToDatetime()
        assert (pending.status, pending.etag) == (order.status, order.etag)

        first = checkout.orders().answer("PayOrder", **request)
        again = checkout.orders().answer("PayOrder", **request)
        assert first.message.order.status == order_pb2.ORDER_STATUS_PAID
        assert again.body == first.body
        assert (first.replayed, again.replayed) == (False, True)
        assert checkout.ledger.charges(order.id) == [TOTAL]
        assert not checkout.order(order.id).HasField("pending_operation")
        assert checkout.events(order.id) == ["order_created", "order_paid"]

    @pytest.mark.requirement("FR-213", "FR-234")
    def test_that_the_caller_does_not_wait_for_is_settled_all_the_same(
        self, checkouts: Checkouts
    ) -> None:
        """A slow gateway, an impatient caller: the handler goes on and writes it down."""
        with checkouts.running(payment_gateway_slow_seconds=1.5) as checkout:
            order = checkout.place()
            request = pay_request(order, "tok_slow")
            with pytest.raises(grpc.RpcError):
                checkout.orders().PayOrder(**request, timeout=1.1)
            first = checkout.orders().answer("PayOrder", **request)
            assert first.message.order.status == order_pb2.ORDER_STATUS_PAID
            assert checkout.ledger.charges(order.id) == [TOTAL]

    @pytest.mark.requirement("FR-215", "FR-107")
    def test_with_a_token_that_nobody_knows_leaves_the_order_free(self, checkout: Checkout) -> None:
        order = checkout.place()
        request = pay_request(order, "tok_unheardOf")
        for _ in range(2):
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
                checkout.orders().PayOrder(**request)
            assert list(refusal.violations) == ["payment_token"]
            assert "tok_unheardOf" not in str(refusal.status)
            assert not refusal.is_replayed
        # The key is bound to its fields: another token is another request.
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED"):
            checkout.orders().PayOrder(**{**request, "payment_token": "tok_visa"})
        checkout.pay(order)
        assert checkout.ledger.charges(order.id) == [TOTAL]

    @pytest.mark.requirement("FR-214", "FR-104")
    def test_of_an_order_that_was_paid_directly_waits_for_the_payment_to_be_marked(
        self, checkout: Checkout
    ) -> None:
        order = checkout.place()
        payment = checkout.process(order)
        request = pay_request(order)
        for _ in range(2):
            with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS") as refusal:
                checkout.orders().PayOrder(**request)
            assert refusal.metadata == {"order_id": order.id, "operation": "charge"}
            assert refusal.retry_seconds > 0
        checkout.orders().MarkOrderPaid(order_id=order.id, transaction_id=payment.id)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            checkout.orders().PayOrder(**request)
        assert checkout.order(order.id).payment_transaction_id == payment.id
        assert checkout.ledger.charges(order.id) == [TOTAL]


@pytest.mark.requirement("FR-216")
class TestWhileAnOperationIsUnderWay:
    @pytest.mark.parametrize("rpc", ["PayOrder", "CancelOrder", "MarkOrderPaid"])
    def test_a_charge_keeps_other_money_calls_waiting(self, checkout: Checkout, rpc: str) -> None:
        order = left_pending(checkout)
        fields: dict[str, Any] = {"order_id": order.id}
        if rpc == "PayOrder":
            fields["payment_token"] = "tok_visa"
        if rpc == "MarkOrderPaid":
            fields["transaction_id"] = "pay_1"
        with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS") as refusal:
            checkout.orders().answer(rpc, **fields)
        assert refusal.metadata == {"order_id": order.id, "operation": "charge"}
        assert refusal.retry_seconds > 0
        assert checkout.order(order.id) == order
        assert checkout.events(order.id) == ["order_created"]

    @pytest.mark.parametrize("rpc", ["RefundOrder", "FulfillOrder"])
    def test_a_refund_keeps_refunds_and_fulfilment_waiting(
        self, checkout: Checkout, rpc: str
    ) -> None:
        order = checkout.paid("tok_refundTimeoutAfter")
        refund = {"idempotency_key": new_key(), "order_id": order.id, "amount": money(1000)}
        outcome_unknown(checkout, "RefundOrder", refund)
        pending = checkout.order(order.id).pending_operation
        assert pending.kind == order_pb2.PAYMENT_OPERATION_KIND_REFUND
        client = checkout.orders(OPERATIONS)
        with refused(grpc.StatusCode.ABORTED, "REFUND_IN_PROGRESS") as refusal:
            client.answer(rpc, order_id=order.id)
        assert refusal.metadata == {"order_id": order.id}
        assert refusal.retry_seconds > 0

    def test_a_call_that_the_status_forbids_is_told_so_at_once(self, checkout: Checkout) -> None:
        order = left_pending(checkout)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            checkout.fulfill(order)

    @pytest.mark.parametrize("token", LOST)
    def test_one_that_was_left_behind_is_settled_by_the_call_that_meets_it(
        self, checkouts: Checkouts, token: str
    ) -> None:
        with checkouts.running() as checkout:
            order = left_pending(checkout, token)
            checkout.clock.move(timedelta(seconds=4))
            with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS"):
                checkout.cancel(order)
            checkout.clock.move(timedelta(seconds=2))
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
                checkout.cancel(order)
            assert checkout.order(order.id).status == order_pb2.ORDER_STATUS_PAID
            assert checkout.ledger.charges(order.id) == [TOTAL]
            assert checkout.events(order.id) == [
                "order_created",
                "order_paid",
                "invalid_transition_attempted",
            ]

    def test_the_key_of_one_that_others_settled_gets_its_final_reply(
        self, checkouts: Checkouts
    ) -> None:
        with checkouts.running() as checkout:
            order = checkout.place()
            request = pay_request(order, "tok_timeoutAfterCharge")
            outcome_unknown(checkout, "PayOrder", request)
            checkout.clock.move(timedelta(seconds=6))
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
                checkout.cancel(order)
            answer = checkout.orders().answer("PayOrder", **request)
            assert answer.replayed
            assert answer.message.order.status == order_pb2.ORDER_STATUS_PAID
            assert answer.message.order == checkout.order(order.id)

    def test_a_refund_that_was_left_behind_is_settled_before_the_goods_leave(
        self, checkouts: Checkouts
    ) -> None:
        with checkouts.running() as checkout:
            order = checkout.paid("tok_refundTimeoutAfter")
            refund = {"idempotency_key": new_key(), "order_id": order.id, "amount": money(1000)}
            outcome_unknown(checkout, "RefundOrder", refund)
            checkout.clock.move(timedelta(seconds=6))
            fulfilled = checkout.fulfill(order)
            assert fulfilled.refunded_amount == money(1000)
            assert checkout.ledger.refunds(order.id) == [1000]


@pytest.mark.requirement("FR-213", "FR-234")
class TestAPaymentServiceThatIsStopped:
    def test_is_unknown_or_unavailable_and_the_same_key_finds_out(
        self, checkouts: Checkouts
    ) -> None:
        with checkouts.running() as checkout:
            orders = [checkout.place() for _ in range(3)]
            checkout.stop_payments()
            requests = [pay_request(order) for order in orders]
            for request in requests:
                with pytest.raises(grpc.RpcError) as raised:
                    checkout.orders().PayOrder(**request)
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            assert all(checkout.ledger.charges(order.id) == [] for order in orders)
            checkout.start_payments()
            for request, order in zip(requests, orders, strict=True):
                paid = self.paid_soon(checkout, request)
                assert paid.id == order.id
                assert checkout.ledger.charges(order.id) == [TOTAL]

    def test_is_known_to_be_unavailable_before_anything_is_started(
        self, checkouts: Checkouts
    ) -> None:
        with checkouts.running() as checkout:
            first, second = checkout.place(), checkout.place()
            checkout.stop_payments()
            with pytest.raises(grpc.RpcError):
                checkout.pay(first)
            for start in (checkout.pay, checkout.cancel):
                with refused(grpc.StatusCode.UNAVAILABLE, "PAYMENT_SERVICE_UNAVAILABLE"):
                    start(second)
            assert not checkout.order(second.id).HasField("pending_operation")

    def test_lets_everything_else_go_on(self, checkouts: Checkouts) -> None:
        with checkouts.running() as checkout:
            order = checkout.paid()
            checkout.stop_payments()
            checkout.place()
            assert checkout.fulfill(order).status == order_pb2.ORDER_STATUS_FULFILLED

    @staticmethod
    def paid_soon(checkout: Checkout, request: dict[str, Any]) -> order_pb2.Order:
        outcome = final_outcome(lambda: checkout.orders().answer("PayOrder", **request))
        assert not isinstance(outcome, grpc.RpcError)
        order: order_pb2.Order = outcome.message.order
        return order


class TestCancelOrder:
    @pytest.mark.requirement("FR-219", "FR-111")
    def test_ends_the_ticket(self, checkout: Checkout) -> None:
        order = checkout.place()
        cancelled = checkout.cancel(order)
        assert cancelled.payment_ticket == ""
        payment = checkout.process(order)
        assert payment.status == payment_pb2.PAYMENT_STATUS_VOIDED
        assert payment.void_reason == payment_pb2.VOID_REASON_ORDER_SEALED
        assert checkout.ledger.requests(order.id) == 0

    @pytest.mark.requirement("FR-220")
    def test_that_finds_the_money_makes_the_order_paid(self, checkout: Checkout) -> None:
        order = checkout.place()
        payment = checkout.process(order)
        request = {"idempotency_key": new_key(), "order_id": order.id}
        for attempt in range(2):
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION") as refusal:
                checkout.orders().CancelOrder(**request)
            assert refusal.metadata["current_status"] == "paid"
            assert refusal.is_replayed == bool(attempt)
        assert checkout.order(order.id).payment_transaction_id == payment.id
        assert checkout.events(order.id) == [
            "order_created",
            "order_paid",
            "invalid_transition_attempted",
        ]

    @pytest.mark.requirement("FR-220", "FR-112")
    def test_after_a_declined_payment_is_an_ordinary_one(self, checkout: Checkout) -> None:
        order = checkout.place()
        checkout.process(order, "tok_chargeDeclined")
        assert checkout.cancel(order).status == order_pb2.ORDER_STATUS_CANCELLED

    @pytest.mark.requirement("FR-220", "FR-112")
    @pytest.mark.parametrize("token", LOST)
    def test_that_finds_a_pending_payment_asks_the_gateway_about_it(
        self, checkout: Checkout, token: str
    ) -> None:
        order = checkout.place()
        assert checkout.process(order, token).status == payment_pb2.PAYMENT_STATUS_PENDING
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            checkout.cancel(order)
        assert checkout.order(order.id).status == order_pb2.ORDER_STATUS_PAID
        assert checkout.ledger.charges(order.id) == [TOTAL]

    @pytest.mark.requirement("FR-220")
    def test_that_finds_a_payment_at_the_gateway_stays_under_way(
        self, checkouts: Checkouts
    ) -> None:
        with (
            checkouts.running(payment_gateway_slow_seconds=1.5) as checkout,
            ThreadPoolExecutor(1) as other,
        ):
            order = checkout.place()
            request = {"idempotency_key": new_key(), "order_id": order.id}
            processing = other.submit(checkout.process, order, "tok_slow")
            wait_until(lambda: bool(checkout.payment_history(order.id)))

            refusal = outcome_unknown(checkout, "CancelOrder", request)
            assert refusal.metadata == {"order_id": order.id, "operation": "cancel"}
            pending = checkout.order(order.id).pending_operation
            assert pending.kind == order_pb2.PAYMENT_OPERATION_KIND_CANCEL
            with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS") as busy:
                checkout.pay(order)
            assert busy.metadata == {"order_id": order.id, "operation": "cancel"}

            payment = processing.result()
            assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
                checkout.orders().CancelOrder(**request)
            assert checkout.order(order.id).payment_transaction_id == payment.id
            assert checkout.ledger.charges(order.id) == [TOTAL]


class TestMarkOrderPaid:
    def mark(
        self, checkout: Checkout, order: order_pb2.Order, transaction_id: str, **fields: Any
    ) -> order_pb2.Order:
        caller = fields.pop("caller", ALICE)
        response = checkout.orders(caller).MarkOrderPaid(
            order_id=order.id, transaction_id=transaction_id, **fields
        )
        marked: order_pb2.Order = response.order
        return marked

    @pytest.mark.requirement("FR-217")
    def test_by_the_same_payment_again_is_ok_in_whatever_later_status(
        self, checkout: Checkout
    ) -> None:
        order = checkout.place()
        payment = checkout.process(order)
        paid = self.mark(checkout, order, payment.id)
        assert self.mark(checkout, order, payment.id) == paid
        fulfilled = checkout.fulfill(order)
        assert self.mark(checkout, order, payment.id) == fulfilled
        archived = checkout.archive(order)
        assert self.mark(checkout, order, payment.id) == archived
        assert checkout.events(order.id).count("order_paid") == 1
        assert len(checkout.history(order.id)) == 4

    @pytest.mark.requirement("FR-218")
    @pytest.mark.parametrize("caller", [ALICE, SHOP, OPERATIONS], ids=lambda c: c.role)
    def test_by_the_payment_of_another_order_is_a_mismatch(
        self, checkout: Checkout, caller: Any
    ) -> None:
        order, payment = checkout.place(), checkout.process(checkout.place())
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_MISMATCH") as refusal:
            self.mark(checkout, order, payment.id, caller=caller)
        assert refusal.metadata == {"order_id": order.id, "payment_id": payment.id}

    @pytest.mark.requirement("FR-218")
    def test_by_somebody_elses_payment_is_one_that_is_not_there(self, checkout: Checkout) -> None:
        order = checkout.place(ALICE)
        payment = checkout.process(checkout.place(BOB), caller=BOB)
        with refused(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND") as refusal:
            self.mark(checkout, order, payment.id)
        assert refusal.resource == ("checkout.payment.v1.Payment", payment.id)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_MISMATCH"):
            self.mark(checkout, order, payment.id, caller=OPERATIONS)

    @pytest.mark.requirement("FR-218")
    def test_by_a_payment_that_took_nothing_is_refused(self, checkout: Checkout) -> None:
        order = checkout.place()
        failed = checkout.process(order, "tok_chargeDeclined")
        live = checkout.process(order)
        voided = checkout.process(order)
        for payment, status in ((failed, "failed"), (voided, "voided")):
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_NOT_SUCCEEDED") as refusal:
                self.mark(checkout, order, payment.id)
            assert refusal.metadata == {"payment_id": payment.id, "status": status}
        assert self.mark(checkout, order, live.id).payment_transaction_id == live.id

    @pytest.mark.requirement("FR-218")
    def test_by_a_pending_payment_has_to_wait(self, checkout: Checkout) -> None:
        order, key = checkout.place(), new_key()
        fields = {
            "idempotency_key": new_key(),
            "payment_ticket": order.payment_ticket,
            "payment_token": "tok_timeoutAfterCharge",
        }
        payment = checkout.payments().ProcessPayment(**fields).payment
        with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS"):
            self.mark(checkout, order, payment.id, idempotency_key=key)
        checkout.payments().ProcessPayment(**fields)
        paid = self.mark(checkout, order, payment.id, idempotency_key=key)
        assert paid.status == order_pb2.ORDER_STATUS_PAID

    @pytest.mark.requirement("FR-218")
    def test_by_an_unknown_payment_is_not_found(self, checkout: Checkout) -> None:
        with refused(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND"):
            self.mark(checkout, checkout.place(), "pay_unknown", caller=OPERATIONS)

    @pytest.mark.requirement("FR-218")
    def test_by_another_payment_of_a_paid_order_is_refused(self, checkout: Checkout) -> None:
        order = checkout.paid()
        other = checkout.process(checkout.place())
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            self.mark(checkout, order, other.id)


class TestRefundOrder:
    @pytest.mark.requirement("FR-222", "FR-116")
    def test_in_parts_leaves_the_order_paid_until_all_is_back(
        self, each_checkout: Checkout
    ) -> None:
        checkout, order = each_checkout, each_checkout.paid()
        once = checkout.refund(order, money(1500))
        assert once.status == order_pb2.ORDER_STATUS_PAID
        assert once.refunded_amount == money(1500)
        assert once.etag == order.etag
        rest = checkout.refund(order)
        assert rest.status == order_pb2.ORDER_STATUS_REFUNDED
        assert rest.refunded_amount == rest.total_amount == money(TOTAL)
        assert rest.payment_transaction_id == order.payment_transaction_id
        payment = checkout.payment(order.payment_transaction_id)
        assert payment.refunded_amount == money(TOTAL)
        assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
        assert checkout.ledger.refunds(order.id) == [1500, 2500]
        assert checkout.events(order.id) == [
            "order_created",
            "order_paid",
            "order_partially_refunded",
            "order_refunded",
        ]

    @pytest.mark.requirement("FR-222", "FR-117")
    def test_of_more_than_is_left_says_how_much_that_is(self, checkout: Checkout) -> None:
        order = checkout.paid()
        checkout.refund(order, money(1500))
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "REFUND_EXCEEDS_PAYMENT") as refusal:
            checkout.refund(order, money(2501))
        assert refusal.metadata == {
            "payment_id": order.payment_transaction_id,
            "currency_code": "EUR",
            "refundable_minor_units": "2500",
            "requested_minor_units": "2501",
        }
        assert checkout.events(order.id)[-1] == "refund_refused"
        assert checkout.ledger.refunds(order.id) == [1500]

    @pytest.mark.requirement("FR-222")
    @pytest.mark.parametrize(
        "amount",
        [money(1000, "USD"), money(0), money(-1)],
        ids=["another currency", "nothing", "less"],
    )
    def test_of_an_amount_that_cannot_be_is_not_stored(
        self, checkout: Checkout, amount: Any
    ) -> None:
        order, key = checkout.paid(), new_key()
        client = checkout.orders(OPERATIONS)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            client.RefundOrder(idempotency_key=key, order_id=order.id, amount=amount)
        assert all(field.startswith("amount.") for field in refusal.violations)
        client.RefundOrder(idempotency_key=key, order_id=order.id, amount=money(1000))
        assert checkout.ledger.refunds(order.id) == [1000]

    @pytest.mark.requirement("FR-223", "FR-118")
    def test_that_is_declined_leaves_the_order_as_it_was(self, checkout: Checkout) -> None:
        order = checkout.paid("tok_refundFail")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "REFUND_DECLINED") as refusal:
            checkout.refund(order)
        assert refusal.metadata == {"order_id": order.id, "decline_code": "refund_failed"}
        now = checkout.order(order.id)
        assert (now.status, now.refunded_amount) == (order.status, money(0))
        assert not now.HasField("pending_operation")
        assert checkout.events(order.id)[-1] == "refund_failed"
        assert checkout.fulfill(order).status == order_pb2.ORDER_STATUS_FULFILLED

    @pytest.mark.requirement("FR-223", "FR-119")
    def test_whose_answer_is_lost_gives_back_once(self, each_checkout: Checkout) -> None:
        checkout, order = each_checkout, each_checkout.paid("tok_refundTimeoutAfter")
        request: dict[str, Any] = {
            "idempotency_key": new_key(),
            "order_id": order.id,
            "amount": money(1000),
        }
        refusal = outcome_unknown(checkout, "RefundOrder", request)
        assert refusal.metadata == {"order_id": order.id, "operation": "refund"}
        client = checkout.orders(OPERATIONS)
        first = client.answer("RefundOrder", **request)
        again = client.answer("RefundOrder", **request)
        assert again.body == first.body
        assert first.message.order.refunded_amount == money(1000)
        assert checkout.ledger.refunds(order.id) == [1000]

    @pytest.mark.requirement("FR-119")
    def test_that_is_slow_is_waited_for(self, checkout: Checkout) -> None:
        order = checkout.paid("tok_refundSlow")
        assert checkout.refund(order).status == order_pb2.ORDER_STATUS_REFUNDED
        assert checkout.ledger.refunds(order.id) == [TOTAL]


@pytest.mark.requirement("FR-225")
class TestAnEtag:
    def test_changes_with_the_status_and_with_nothing_else(self, checkout: Checkout) -> None:
        order = checkout.place()
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_DECLINED"):
            checkout.pay(order, "tok_chargeDeclined")
        assert checkout.order(order.id).etag == order.etag
        paid = checkout.pay(order)
        assert paid.etag != order.etag
        assert checkout.refund(order, money(1)).etag == paid.etag
        assert checkout.refund(order).etag not in {order.etag, paid.etag}

    def test_that_is_right_lets_the_change_through(self, checkout: Checkout) -> None:
        order = checkout.place()
        paid = checkout.orders().PayOrder(**pay_request(order), etag=order.etag).order
        assert paid.status == order_pb2.ORDER_STATUS_PAID

    def test_that_is_old_stops_it_and_is_told_the_new_one(self, checkout: Checkout) -> None:
        order = checkout.place()
        paid = checkout.pay(order)
        with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH") as refusal:
            checkout.orders(SHOP).FulfillOrder(order_id=order.id, etag=order.etag)
        assert refusal.metadata == {"order_id": order.id, "current_etag": paid.etag}
        assert refusal.status.details[1:] == []

    def test_is_not_asked_for_again_by_a_repeat(self, checkout: Checkout) -> None:
        """The change it was sent with has made it old."""
        order = checkout.place()
        request = pay_request(order, "tok_timeoutAfterCharge") | {"etag": order.etag}
        outcome_unknown(checkout, "PayOrder", request)
        first = checkout.orders().answer("PayOrder", **request)
        assert checkout.orders().answer("PayOrder", **request).body == first.body


@pytest.mark.requirement("FR-234")
class TestADeadlineThatIsTooShort:
    @pytest.mark.parametrize("rpc", ["PayOrder", "CancelOrder", "RefundOrder", "MarkOrderPaid"])
    def test_starts_nothing_at_the_order_service(self, checkout: Checkout, rpc: str) -> None:
        order = checkout.paid() if rpc == "RefundOrder" else checkout.place()
        fields: dict[str, Any] = {
            "PayOrder": {"payment_token": "tok_visa"},
            "MarkOrderPaid": {"transaction_id": "pay_1"},
        }.get(rpc, {})
        client = checkout.orders(OPERATIONS if rpc == "RefundOrder" else ALICE)
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT") as refusal:
            client.answer(rpc, timeout=0.95, order_id=order.id, **fields)
        assert refusal.metadata == {"minimum_seconds": "1.0"}
        assert checkout.order(order.id) == order

    def test_starts_nothing_at_the_payment_service(self, checkout: Checkout) -> None:
        order = checkout.place()
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT") as refusal:
            checkout.payments().ProcessPayment(
                payment_ticket=order.payment_ticket, payment_token="tok_visa", timeout=0.45
            )
        assert refusal.metadata == {"minimum_seconds": "0.5"}
        assert checkout.payment_history(order.id) == []

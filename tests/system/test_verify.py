"""Verification: silent on every checkout that is well, and exact about each that is not."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2, order_service_pb2
from tests.assertions import refused
from tests.builders import money, new_key
from tests.checkout import Checkout
from tests.client import OPERATIONS
from tests.system.checkouts import BOTH, Checkouts
from tests.system.planting import Books, update
from tests.system.stages import ORDER_IN, cancelled, fulfilled, refunded
from tests.system.unknown_outcomes import left_pending
from tests.system.verifying import broken, told, verified

SOON = timedelta(seconds=25)
LATER = timedelta(seconds=40)
TOO_LATE = timedelta(hours=13)


@pytest.fixture(scope="module")
def checkout(each_checkout: Checkout) -> Checkout:
    """Checkouts on each database."""
    return each_checkout


@pytest.fixture(scope="module")
def books(checkout: Checkout) -> Books:
    """Their books, which anything can be written into."""
    return Books(checkout)


def partly_refunded(checkout: Checkout) -> order_pb2.Order:
    """An order of which a part was given back."""
    return checkout.refund(checkout.paid(), money(1000))


def declined(checkout: Checkout) -> order_pb2.Order:
    """An order whose charge was declined."""
    order = checkout.place()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_DECLINED"):
        checkout.pay(order, "tok_chargeDeclined")
    return order


@pytest.mark.requirement("FR-246")
class TestAHealthyCheckout:
    @pytest.mark.parametrize("database", BOTH)
    def test_breaks_no_guarantee_in_any_status(self, checkouts: Checkouts, database: str) -> None:
        with checkouts.running(database) as checkout:
            for make in ORDER_IN.values():
                make(checkout)
            for make in (partly_refunded, declined, left_pending):
                make(checkout)
            checkout.fulfill(partly_refunded(checkout))
            self.refuse_all_kinds(checkout)
            checkout.process(checkout.place())
            report = verified(checkout)

        assert report.violations == ()
        assert report.waiting == ()
        assert report.orders == len(ORDER_IN) + 8

    def refuse_all_kinds(self, checkout: Checkout) -> None:
        other, operations = checkout.paid(), checkout.orders(OPERATIONS)
        payment_id = other.payment_transaction_id
        refusals: list[tuple[str, str, dict[str, Any]]] = [
            ("INVALID_TRANSITION", "CancelOrder", {"order_id": other.id}),
            ("REFUND_EXCEEDS_PAYMENT", "RefundOrder", {"amount": money(4001)}),
            (
                "PAYMENT_MISMATCH",
                "MarkOrderPaid",
                {"order_id": checkout.place().id, "transaction_id": payment_id},
            ),
        ]
        for reason, rpc, fields in refusals:
            with refused(grpc.StatusCode.FAILED_PRECONDITION, reason):
                getattr(operations, rpc)(**{"order_id": other.id, **fields})
        unpaid = checkout.place()
        failed = checkout.process(unpaid, "tok_chargeDeclined")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_NOT_SUCCEEDED"):
            operations.MarkOrderPaid(order_id=unpaid.id, transaction_id=failed.id)

    @pytest.mark.parametrize("database", BOTH)
    def test_that_is_empty_breaks_none(self, checkouts: Checkouts, database: str) -> None:
        with checkouts.running(database) as checkout:
            report = verified(checkout)

        assert (report.orders, report.violations) == (0, ())

    def test_without_a_ledger_is_compared_as_far_as_it_goes(
        self, checkout: Checkout, books: Books
    ) -> None:
        order = checkout.paid()
        books.ledger("DELETE FROM charges WHERE order_id = :id", id=order.id)
        assert broken(checkout, order).keys() == {"I1"}

        assert broken(checkout, order, ledger=None) == {}


@pytest.mark.requirement("FR-249")
class TestLooks:
    def test_reach_every_order_and_every_key(self, checkout: Checkout, books: Books) -> None:
        orders = [checkout.place() for _ in range(5)]
        for order in orders:
            books.orders("UPDATE orders SET version = 9 WHERE id = :id", id=order.id)
        all_at_once = verified(checkout, pauses_seconds=(0,))
        in_batches = verified(checkout, pauses_seconds=(0,), batch=2)

        assert in_batches == all_at_once
        for order in orders:
            assert told(in_batches, order).keys() == {"I7"}

    def test_are_repeated_and_only_what_lasts_is_told(
        self, checkout: Checkout, books: Books
    ) -> None:
        lasting, passing = checkout.place(), checkout.place()
        for order in (lasting, passing):
            books.orders("UPDATE orders SET version = 9 WHERE id = :id", id=order.id)

        def repair(_orders: int) -> None:
            books.orders("UPDATE orders SET version = 1 WHERE id = :id", id=passing.id)

        # It is called after the first look at all, and before the second at what looked wrong.
        report = verified(checkout, pauses_seconds=(0,), progress=repair)

        assert told(report, lasting).keys() == {"I7"}
        assert told(report, passing) == {}

    def test_find_charges_of_orders_that_nobody_knows(
        self, checkout: Checkout, books: Books
    ) -> None:
        order = checkout.paid()
        books.ledger(
            "INSERT INTO charges SELECT :key, 1, :key, 'ord_' || :key, currency_code, amount_minor,"
            " '', refund_answer, '', at FROM charges WHERE order_id = :id",
            key=(key := new_key()),
            id=order.id,
        )
        report = verified(checkout, pauses_seconds=(0,))

        found = told(report, order_pb2.Order(id=f"ord_{key}"))
        assert found.keys() == {"I1", "I2"}
        assert key in found["I2"]

    def test_list_what_the_inbox_has_of_orders_that_nobody_knows(
        self, checkout: Checkout, books: Books
    ) -> None:
        checkout.place()
        order_id, payment_id = new_key(), new_key()
        books.orders(
            "INSERT INTO payment_inbox (payment_id, order_id, received_at, problem)"
            " SELECT :payment_id, :order_id, created_at, 'ORDER_NOT_FOUND' FROM orders LIMIT 1",
            order_id=order_id,
            payment_id=payment_id,
        )
        report = verified(checkout, pauses_seconds=(0,))

        [case] = [case for case in report.waiting if case.order_id == order_id]
        assert payment_id in case.told
        assert "ORDER_NOT_FOUND" in case.told
        assert told(report, order_pb2.Order(id=order_id)) == {}


@pytest.mark.requirement("FR-247")
class TestI1:
    def test_an_order_charged_twice(self, checkout: Checkout, books: Books) -> None:
        order = checkout.paid()
        books.ledger(
            "INSERT INTO charges SELECT :key, 1, :key, order_id, currency_code, amount_minor,"
            " decline_code, refund_answer, refund_decline_code, at FROM charges"
            " WHERE order_id = :id",
            key=new_key(),
            id=order.id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I1"}
        assert "at most one approved charge" in found["I1"]
        assert order.payment_transaction_id in found["I1"]

    def test_an_order_paid_twice(self, checkout: Checkout, books: Books) -> None:
        order = checkout.place()
        first = checkout.process(order)
        books.payments("UPDATE payments SET status = 'failed' WHERE id = :id", id=first.id)
        second = checkout.process(order)
        books.payments("UPDATE payments SET status = 'succeeded' WHERE id = :id", id=first.id)

        found = broken(checkout, order)
        assert found.keys() == {"I1"}
        for payment in (first, second):
            assert found["I1"].count(payment.id) == 2  # as payments, and as charges

    def test_a_payment_that_the_ledger_does_not_know(
        self, checkout: Checkout, books: Books
    ) -> None:
        order = checkout.paid()
        books.ledger("DELETE FROM charges WHERE order_id = :id", id=order.id)
        found = broken(checkout, order)
        assert found.keys() == {"I1"}
        assert order.payment_transaction_id in found["I1"]

    @pytest.mark.parametrize(
        "change",
        [
            "reference = 'ch_other' || key",
            "amount_minor = amount_minor + 1",
            "currency_code = 'USD'",
        ],
    )
    def test_a_payment_that_the_ledger_knows_otherwise(
        self, checkout: Checkout, books: Books, change: str
    ) -> None:
        order = checkout.paid()
        books.ledger(update("charges", change, "order_id = :id"), id=order.id)
        found = broken(checkout, order)
        assert found.keys() == {"I1"}
        assert order.payment_transaction_id in found["I1"]

    def test_money_taken_by_a_charge_that_was_told_to_be_declined(
        self, checkout: Checkout, books: Books
    ) -> None:
        order = declined(checkout)
        books.ledger("UPDATE charges SET decline_code = '' WHERE order_id = :id", id=order.id)
        found = broken(checkout, order)
        assert found.keys() == {"I1"}
        assert "is failed: found an approved charge" in found["I1"]

    def test_a_charge_without_a_payment(self, checkout: Checkout, books: Books) -> None:
        order = declined(checkout)
        books.ledger(
            "UPDATE charges SET decline_code = '', key = :key WHERE order_id = :id",
            key=(key := new_key()),
            id=order.id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I1"}
        assert key in found["I1"]

    def test_a_gateway_that_contradicted_itself(self, checkout: Checkout, books: Books) -> None:
        order = checkout.paid()
        books.payments(
            "INSERT INTO payment_audit_entries (order_id, position, payment_id, refund_id,"
            " actor_role, actor_reference, at, event_type, from_status, to_status, outcome,"
            " reason, trace_id, seal_version, seal) SELECT order_id, 99, payment_id, '',"
            " actor_role, actor_reference, at, 'gateway_discrepancy_found', 'succeeded',"
            " 'succeeded', 'applied', 'gateway_says_failed', '', 1, seal"
            " FROM payment_audit_entries"
            " WHERE order_id = :id AND event_type = 'payment_succeeded'",
            id=order.id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I1"}
        assert "gateway_says_failed" in found["I1"]


@pytest.mark.requirement("FR-247")
class TestI2:
    def test_an_order_paid_by_another_payment(self, checkout: Checkout, books: Books) -> None:
        order = checkout.paid()
        books.orders(
            "UPDATE orders SET payment_id = :other WHERE id = :id",
            other=(other := new_key()),
            id=order.id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I2"}
        assert order.payment_transaction_id in found["I2"]
        assert other in found["I2"]

    def test_a_payment_of_somebody_else(self, checkout: Checkout, books: Books) -> None:
        order = checkout.paid()
        books.payments(
            "UPDATE payments SET customer_id = 'bob' WHERE id = :id",
            id=order.payment_transaction_id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I2"}
        assert "alice" in found["I2"]
        assert "bob" in found["I2"]

    def test_a_payment_of_another_amount(self, checkout: Checkout, books: Books) -> None:
        order = checkout.paid()
        books.orders("UPDATE orders SET total_minor = 4001 WHERE id = :id", id=order.id)
        # The stored reply still tells the right one.
        found = broken(checkout, order)
        assert found.keys() == {"I2", "I4"}
        assert "4001" in found["I2"]

    def test_an_order_that_nobody_paid_for(self, checkout: Checkout, books: Books) -> None:
        order = checkout.place()
        books.orders(
            "UPDATE orders SET status = 'paid', version = 2, payment_id = :other WHERE id = :id",
            other=new_key(),
            id=order.id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I2", "I7"}
        assert "found none" in found["I2"]

    def test_a_charge_under_another_key(self, checkout: Checkout, books: Books) -> None:
        order = checkout.paid()
        books.payments(
            "UPDATE payments SET idempotency_key = :key WHERE id = :id",
            key=new_key(),
            id=order.payment_transaction_id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I2"}
        assert "no payment" in found["I2"]

    def test_a_payment_of_no_order(self, checkout: Checkout, books: Books) -> None:
        order = checkout.place()
        payment = checkout.process(order)
        books.orders("DELETE FROM order_audit_entries WHERE order_id = :id", id=order.id)
        books.orders("DELETE FROM order_items WHERE order_id = :id", id=order.id)
        books.orders("DELETE FROM orders WHERE id = :id", id=order.id)
        report = verified(checkout, pauses_seconds=(0,))

        # The reply of CreateOrder tells of an order that is gone.
        found = told(report, order)
        assert found.keys() == {"I2", "I4"}
        assert found["I2"].count(payment.id) == 2  # the payment, and its charge


@pytest.mark.requirement("FR-247")
class TestI3:
    def test_a_cancelled_order_that_was_charged(self, checkout: Checkout, books: Books) -> None:
        order = declined(checkout)
        checkout.cancel(order)
        books.ledger("UPDATE charges SET decline_code = '' WHERE order_id = :id", id=order.id)
        found = broken(checkout, order)
        # Its payment says declined, which the ledger contradicts too.
        assert found.keys() == {"I1", "I3"}
        assert "approved charge" in found["I3"]

    def test_a_cancelled_order_that_is_paid(self, checkout: Checkout, books: Books) -> None:
        order = checkout.place()
        payment = checkout.process(order)
        books.payments("UPDATE payments SET status = 'failed' WHERE id = :id", id=payment.id)
        checkout.cancel(order)
        books.payments("UPDATE payments SET status = 'succeeded' WHERE id = :id", id=payment.id)
        found = broken(checkout, order)
        assert found.keys() == {"I3"}
        assert payment.id in found["I3"]

    def test_a_cancelled_order_that_is_not_sealed(self, checkout: Checkout, books: Books) -> None:
        order = cancelled(checkout)
        books.payments(
            "UPDATE payment_orders SET sealed_at = NULL WHERE order_id = :id", id=order.id
        )
        # Its entry is there, and tells of a seal that is not.
        found = broken(checkout, order)
        assert found.keys() == {"I3", "I7"}
        assert "found no seal" in found["I3"]


@pytest.mark.requirement("FR-247")
class TestI4:
    OF_ORDER = "operation_id = (SELECT id FROM payment_operations WHERE order_id = :id)"

    @pytest.mark.parametrize(
        "change",
        [
            "reply = :garbage",
            "reply_ok = NOT reply_ok",
            "reply = NULL, reply_ok = NULL, replied_at = NULL",
        ],
    )
    def test_a_reply_that_was_tampered_with(
        self, checkout: Checkout, books: Books, change: str
    ) -> None:
        order = checkout.paid()
        values = {"garbage": b"\xff\xff"} if "garbage" in change else {}
        books.orders(update("idempotency_keys", change, self.OF_ORDER), id=order.id, **values)
        found = broken(checkout, order)
        assert found.keys() - {"I7"} == {"I4"}  # a refusal would have its entry

    def test_a_reply_that_tells_of_a_status_that_never_was(
        self, checkout: Checkout, books: Books
    ) -> None:
        order = checkout.paid()
        lie = order_pb2.Order.FromString(order.SerializeToString())
        lie.status = order_pb2.ORDER_STATUS_FULFILLED
        reply = order_service_pb2.PayOrderResponse(order=lie).SerializeToString()
        books.orders(
            update("idempotency_keys", "reply = :reply", self.OF_ORDER), id=order.id, reply=reply
        )
        found = broken(checkout, order)
        assert found.keys() == {"I4"}
        assert "fulfilled" in found["I4"]

    def test_a_key_that_was_forgotten_too_early(self, checkout: Checkout, books: Books) -> None:
        order = checkout.paid()
        books.orders(
            "DELETE FROM idempotency_keys WHERE operation_id ="
            " (SELECT id FROM payment_operations WHERE order_id = :id)",
            id=order.id,
        )
        assert broken(checkout, order).keys() == {"I4"}
        assert broken(checkout, order, later=timedelta(hours=25)) == {}

    @pytest.mark.parametrize(
        "change", ["reply = NULL", "reply = :garbage", "payment_token = 'tok_visa'"]
    )
    def test_a_payment_without_its_reply_or_with_its_token(
        self, checkout: Checkout, books: Books, change: str
    ) -> None:
        order = checkout.paid()
        values = {"garbage": b"\xff\xff"} if "garbage" in change else {}
        payment_id = order.payment_transaction_id
        books.payments(update("payments", change, "id = :id"), id=payment_id, **values)
        found = broken(checkout, order)
        assert found.keys() == {"I4"}
        assert payment_id in found["I4"]


@pytest.mark.requirement("FR-247")
class TestI5:
    @pytest.mark.parametrize("change", ["fingerprint = :other", "method = 'CancelOrder'"])
    def test_a_key_of_another_request(self, checkout: Checkout, books: Books, change: str) -> None:
        order = checkout.paid()
        values = {"other": b"x" * 32} if "other" in change else {}
        books.orders(update("payment_operations", change, "order_id = :id"), id=order.id, **values)
        found = broken(checkout, order)
        assert found.keys() == {"I5"}

    def test_a_key_with_two_operations(self, checkout: Checkout, books: Books) -> None:
        order = checkout.paid()
        key = books.read(
            "SELECT idempotency_key FROM payment_operations WHERE order_id = :id", id=order.id
        )
        books.orders(
            "UPDATE idempotency_keys SET operation_id = 'op_other' WHERE idempotency_key = :key",
            key=key,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I5"}
        assert key in found["I5"]
        assert "op_other" in found["I5"]


@pytest.mark.requirement("FR-247")
class TestI6:
    def test_an_order_that_gave_back_what_nobody_got(
        self, checkout: Checkout, books: Books
    ) -> None:
        order = checkout.paid()
        books.orders("UPDATE orders SET refunded_minor = 700 WHERE id = :id", id=order.id)
        found = broken(checkout, order)
        assert found.keys() == {"I6"}
        assert "700" in found["I6"]

    def test_a_delivered_order_of_which_all_is_back(self, checkout: Checkout, books: Books) -> None:
        order = fulfilled(checkout)
        books.orders("UPDATE orders SET refunded_minor = total_minor WHERE id = :id", id=order.id)
        found = broken(checkout, order)
        assert found.keys() == {"I6"}
        assert "found the order fulfilled with 4000" in found["I6"]

    @pytest.mark.parametrize(
        "change",
        [
            "amount_minor = 999",
            "decline_code = 'no'",
            "reference = 're_other' || key",
            "key = 'k' || key",
        ],
    )
    def test_a_refund_that_the_ledger_knows_otherwise(
        self, checkout: Checkout, books: Books, change: str
    ) -> None:
        order = partly_refunded(checkout)
        books.ledger(
            update(
                "refunds",
                change,
                "charge_reference = (SELECT reference FROM charges WHERE order_id = :id)",
            ),
            id=order.id,
        )
        assert broken(checkout, order).keys() == {"I6"}

    def test_a_refund_that_the_ledger_booked_twice(self, checkout: Checkout, books: Books) -> None:
        order = refunded(checkout)
        books.ledger(
            "INSERT INTO refunds SELECT :key, 1, :key, charge_reference, currency_code,"
            " amount_minor, '', at FROM refunds WHERE charge_reference ="
            " (SELECT reference FROM charges WHERE order_id = :id)",
            key=(key := new_key()),
            id=order.id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I6"}
        assert key in found["I6"]
        assert "at most 4000: found 8000" in found["I6"]

    def test_a_refund_under_another_key(self, checkout: Checkout, books: Books) -> None:
        order = partly_refunded(checkout)
        books.payments(
            "UPDATE refunds SET idempotency_key = :key WHERE order_id = :id",
            key=new_key(),
            id=order.id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I6"}
        assert "no refund" in found["I6"]

    def test_a_payment_that_forgot_a_refund(self, checkout: Checkout, books: Books) -> None:
        order = partly_refunded(checkout)
        books.payments(
            "UPDATE payments SET refunded_minor = 0 WHERE id = :id",
            id=order.payment_transaction_id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I6"}
        assert order.payment_transaction_id in found["I6"]


@pytest.mark.requirement("FR-247")
class TestI7:
    def test_a_change_without_its_entry(self, checkout: Checkout, books: Books) -> None:
        order = fulfilled(checkout)
        books.orders(
            "DELETE FROM order_audit_entries WHERE order_id = :id"
            " AND event_type = 'order_fulfilled'",
            id=order.id,
        )
        found = broken(checkout, order)
        assert found.keys() == {"I7"}
        assert "fulfilled: found 'paid'" in found["I7"]

    def test_a_change_with_two_entries(self, checkout: Checkout, books: Books) -> None:
        order = fulfilled(checkout)
        books.orders(
            "INSERT INTO order_audit_entries (order_id, position, actor_role, actor_reference,"
            " at, event_type, from_status, to_status, outcome, reason, payment_id, trace_id,"
            " seal_version, seal) SELECT order_id, 99, actor_role, actor_reference, at,"
            " event_type, from_status, to_status, outcome, reason, payment_id, trace_id,"
            " seal_version, seal FROM order_audit_entries"
            " WHERE order_id = :id AND event_type = 'order_fulfilled'",
            id=order.id,
        )
        assert broken(checkout, order).keys() == {"I7"}

    def test_a_refund_without_its_entry(self, checkout: Checkout, books: Books) -> None:
        order = partly_refunded(checkout)
        books.orders(
            "DELETE FROM order_audit_entries WHERE order_id = :id"
            " AND event_type = 'order_partially_refunded'",
            id=order.id,
        )
        assert broken(checkout, order).keys() == {"I7"}

    @pytest.mark.parametrize("change", ["status = 'fulfilled'", "version = 7"])
    def test_a_status_or_a_version_that_came_from_nowhere(
        self, checkout: Checkout, books: Books, change: str
    ) -> None:
        order = checkout.paid()
        books.orders(update("orders", change, "id = :id"), id=order.id)
        assert broken(checkout, order).keys() == {"I7"}

    def test_a_refusal_without_its_entry(self, checkout: Checkout, books: Books) -> None:
        order = fulfilled(checkout)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            checkout.cancel(order)
        books.orders(
            "DELETE FROM order_audit_entries WHERE order_id = :id AND outcome = 'refused'",
            id=order.id,
        )
        # No operation leads to the key: only the look at all keys finds it.
        found = told(verified(checkout, pauses_seconds=(0,)), order)
        assert found.keys() == {"I7"}
        assert "INVALID_TRANSITION" in found["I7"]

    def test_a_refused_operation_without_its_entry(self, checkout: Checkout, books: Books) -> None:
        order = declined(checkout)
        books.orders(
            "DELETE FROM order_audit_entries WHERE order_id = :id AND outcome = 'refused'",
            id=order.id,
        )
        assert broken(checkout, order).keys() == {"I7"}

    @pytest.mark.parametrize(
        "event_type",
        ["payment_requested", "payment_succeeded", "refund_requested", "refund_succeeded"],
    )
    def test_a_payment_or_refund_without_its_entry(
        self, checkout: Checkout, books: Books, event_type: str
    ) -> None:
        order = refunded(checkout)
        books.payments(
            "DELETE FROM payment_audit_entries WHERE order_id = :id AND event_type = :event_type",
            id=order.id,
            event_type=event_type,
        )
        assert broken(checkout, order).keys() == {"I7"}

    def test_a_seal_without_its_entry(self, checkout: Checkout, books: Books) -> None:
        order = cancelled(checkout)
        books.payments(
            "DELETE FROM payment_audit_entries WHERE order_id = :id"
            " AND event_type = 'order_sealed'",
            id=order.id,
        )
        assert broken(checkout, order).keys() == {"I7"}


@pytest.mark.requirement("FR-247")
class TestI8:
    @pytest.fixture
    def read_to_the_end(self, books: Books) -> Iterator[None]:
        """The feed was read to its end, and nothing was received."""
        books.orders("UPDATE payment_feed SET sequence = 1000000")
        yield
        books.orders("UPDATE payment_feed SET sequence = 0")

    def test_a_payment_that_the_feed_skipped(
        self, checkout: Checkout, books: Books, read_to_the_end: None
    ) -> None:
        order = checkout.place()
        payment = checkout.process(order)
        found = broken(checkout, order)
        assert found.keys() == {"I8"}
        assert payment.id in found["I8"]

    def test_a_payment_that_is_on_its_order_was_not_missed(
        self, checkout: Checkout, read_to_the_end: None
    ) -> None:
        assert broken(checkout, checkout.paid()) == {}


@pytest.mark.requirement("FR-248")
class TestL1:
    def test_an_operation_may_take_a_moment_and_no_longer(self, checkout: Checkout) -> None:
        order = left_pending(checkout)
        assert broken(checkout, order, later=SOON) == {}

        found = broken(checkout, order, later=LATER)
        assert found.keys() == {"L1"}
        assert "charge op_" in found["L1"]
        assert "payment pay_" in found["L1"]

    def test_a_payment_reaches_its_order_in_a_moment(self, checkout: Checkout) -> None:
        order = checkout.place()
        payment = checkout.process(order)
        assert broken(checkout, order, later=SOON) == {}

        found = broken(checkout, order, later=LATER)
        assert found.keys() == {"L1"}
        assert payment.id in found["L1"]

    def test_what_waits_for_a_person_is_told_and_breaks_nothing(self, checkout: Checkout) -> None:
        order = left_pending(checkout)
        report = verified(checkout, order_id=order.id, pauses_seconds=(0,), later=TOO_LATE)

        assert report.violations == ()
        assert {case.order_id for case in report.waiting} == {order.id}
        assert any("charge op_" in case.told for case in report.waiting)


@pytest.mark.requirement("FR-249")
class TestALiveCheckout:
    SECONDS = 6.0
    THREADS = 6

    @pytest.mark.parametrize("database", BOTH)
    def test_gives_no_false_alarm(self, checkouts: Checkouts, database: str) -> None:
        looks = 0
        with (
            checkouts.running(
                database, background_work=True, payment_gateway_slow_seconds=0.1
            ) as checkout,
            ThreadPoolExecutor(self.THREADS) as pool,
        ):
            ends_at = time.monotonic() + self.SECONDS
            buyers = [pool.submit(buy, checkout, n, ends_at) for n in range(self.THREADS)]
            while time.monotonic() < ends_at:
                report = verified(checkout)
                assert report.violations == ()
                looks += 1
            bought = sum(buyer.result() for buyer in buyers)

            assert verified(checkout).violations == ()
            assert looks >= 1
            assert bought >= self.THREADS


def buy(checkout: Checkout, number: int, ends_at: float) -> int:
    """Bring orders through their lives until the time is over; count the steps."""
    choice = random.Random(number)  # noqa: S311 - repeatable, not secret
    steps = 0
    while time.monotonic() < ends_at:
        order = checkout.place()
        paths: list[list[Any]] = [
            [checkout.pay, checkout.fulfill, checkout.archive],
            [checkout.pay, lambda o: checkout.refund(o, money(10)), checkout.refund],
            [lambda o: checkout.pay(o, "tok_slow"), checkout.cancel],
            [checkout.cancel, checkout.pay],
            [checkout.process, checkout.cancel],
            [checkout.process, lambda o: checkout.pay(o, "tok_mastercard")],
            [lambda o: checkout.pay(o, "tok_timeoutAfterCharge"), checkout.cancel],
            [lambda o: checkout.pay(o, "tok_chargeDeclined"), checkout.pay],
        ]
        for step in choice.choice(paths):
            with suppress(grpc.RpcError):
                step(order)
            steps += 1
    return steps

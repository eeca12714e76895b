"""The same key means the same request: done once, answered alike, on every kind of storage."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from service_kit.contract.method_contracts import method_contracts
from tests.assertions import Refusal, refused
from tests.builders import money, new_key, new_order_item
from tests.checkout import Checkout
from tests.client import (
    ALICE,
    BOB,
    OPERATIONS,
    ORDER_SERVICE,
    ORDER_SERVICE_NAME,
    PAYMENT_SERVICE_NAME,
    Caller,
)
from tests.system.keyed_calls import KEYED_CALLS


def history_of(checkout: Checkout) -> tuple[list[Any], list[Any]]:
    """Everything that has ever happened, in both services."""
    orders: list[Any] = []
    payments: list[Any] = []
    while page := _entries(checkout.orders(OPERATIONS), "ListOrderAuditEntries", orders):
        orders += page
    while page := _entries(checkout.payments(OPERATIONS), "ListPaymentAuditEntries", payments):
        payments += page
    return orders, payments


def _entries(client: Any, rpc: str, seen: list[Any]) -> list[Any]:
    after = seen[-1].sequence if seen else 0
    return list(getattr(client, rpc)(after_sequence=after, page_size=100).entries)


def test_every_rpc_with_a_key_is_called_below() -> None:
    contracts = method_contracts(ORDER_SERVICE_NAME) | method_contracts(PAYMENT_SERVICE_NAME)
    keyed = {m.rpartition("/")[2] for m, c in contracts.items() if c.idempotency == "by_key"}
    assert KEYED_CALLS.keys() == keyed


@pytest.mark.requirement("FR-205", "FR-206", "FR-108", "FR-109", "FR-210")
@pytest.mark.parametrize("rpc", KEYED_CALLS)
class TestARepeat:
    def test_gets_the_first_reply_byte_for_byte_and_does_nothing(
        self, remembering: Checkout, rpc: str
    ) -> None:
        call = KEYED_CALLS[rpc](remembering)
        first = call()
        before = history_of(remembering)
        again = [call(), call()]
        assert [a.body for a in again] == [first.body, first.body]
        assert not first.replayed
        assert all(a.replayed for a in again)
        assert history_of(remembering) == before

    def test_with_other_fields_is_refused_and_changes_nothing(
        self, remembering: Checkout, rpc: str
    ) -> None:
        call = KEYED_CALLS[rpc](remembering)
        first = call()
        before = history_of(remembering)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED") as refusal:
            call.with_other_fields()
        assert refusal.metadata == {"method": rpc}
        assert history_of(remembering) == before
        assert call().body == first.body


@pytest.mark.requirement("FR-206", "FR-109")
class TestAKey:
    def test_belongs_to_one_method(self, remembering: Checkout) -> None:
        order, key = remembering.place(), new_key()
        remembering.orders().PayOrder(
            idempotency_key=key, order_id=order.id, payment_token="tok_visa"
        )
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED") as refusal:
            remembering.orders().CancelOrder(idempotency_key=key, order_id=order.id)
        assert refusal.metadata == {"method": "PayOrder"}

    def test_belongs_to_one_method_of_the_payment_service(self, remembering: Checkout) -> None:
        order, key = remembering.place(), new_key()
        client = remembering.payments(ORDER_SERVICE)
        payment = client.ProcessPayment(
            idempotency_key=key, payment_ticket=order.payment_ticket, payment_token="tok_visa"
        ).payment
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED") as refusal:
            client.RefundPayment(idempotency_key=key, payment_id=payment.id, amount=money(1000))
        assert refusal.metadata == {"method": "ProcessPayment"}
        assert remembering.ledger.refunds(order.id) == []

    def test_threat_17_is_another_one_for_another_caller_or_role(
        self, remembering: Checkout
    ) -> None:
        key = new_key()
        callers = {
            "alice": ALICE,
            "bob": BOB,
            "a service of the same id": Caller("service", "alice"),
        }
        orders = {
            remembering.place(caller, idempotency_key=key, customer_id=customer).id
            for caller, customer in zip(callers.values(), ("alice", "bob", "alice"), strict=True)
        }
        assert len(orders) == 3

    def test_threat_17_is_another_one_for_another_payer(self, remembering: Checkout) -> None:
        key, order = new_key(), remembering.place()
        fields = {"idempotency_key": key, "payment_ticket": order.payment_ticket}
        mine = remembering.payments().ProcessPayment(**fields, payment_token="tok_visa")
        theirs = remembering.payments(ORDER_SERVICE).ProcessPayment(
            **fields, payment_token="tok_amex"
        )
        assert mine.payment.id != theirs.payment.id
        assert remembering.ledger.charges(order.id) == [4000]

    def test_remembers_its_reply_whatever_has_happened_since(self, remembering: Checkout) -> None:
        fields: dict[str, Any] = {"idempotency_key": new_key(), "items": [new_order_item()]}
        first = remembering.orders().answer("CreateOrder", **fields)
        order = first.message.order
        remembering.refund(remembering.pay(order))
        assert remembering.orders().answer("CreateOrder", **fields).body == first.body
        assert remembering.order(order.id).status != order.status


def declined_charge(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    fields = {"order_id": checkout.place().id, "payment_token": "tok_chargeDeclined"}
    return checkout.orders(), "PayOrder", fields


def payment_of_another_order(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    payment = checkout.process(checkout.place())
    return (
        checkout.orders(),
        "MarkOrderPaid",
        {"order_id": checkout.place().id, "transaction_id": payment.id},
    )


def payment_that_failed(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    order = checkout.place()
    payment = checkout.process(order, "tok_chargeDeclined")
    return checkout.orders(), "MarkOrderPaid", {"order_id": order.id, "transaction_id": payment.id}


def declined_refund(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    order = checkout.paid("tok_refundFail")
    return checkout.orders(OPERATIONS), "RefundOrder", {"order_id": order.id}


def refund_of_too_much(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    fields = {"order_id": checkout.paid().id, "amount": money(4001)}
    return checkout.orders(OPERATIONS), "RefundOrder", fields


def refund_payment_of_too_much(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    fields = {"payment_id": checkout.process(checkout.place()).id, "amount": money(4001)}
    return checkout.payments(ORDER_SERVICE), "RefundPayment", fields


def refund_of_a_failed_payment(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    payment = checkout.process(checkout.place(), "tok_chargeDeclined")
    fields = {"payment_id": payment.id, "amount": money(1)}
    return checkout.payments(ORDER_SERVICE), "RefundPayment", fields


@pytest.mark.requirement("FR-205", "FR-117", "FR-212", "FR-222", "FR-223", "FR-228")
@pytest.mark.parametrize(
    ("reason", "prepare"),
    [
        ("PAYMENT_DECLINED", declined_charge),
        ("PAYMENT_MISMATCH", payment_of_another_order),
        ("PAYMENT_NOT_SUCCEEDED", payment_that_failed),
        ("REFUND_DECLINED", declined_refund),
        ("REFUND_EXCEEDS_PAYMENT", refund_of_too_much),
        ("REFUND_EXCEEDS_PAYMENT", refund_payment_of_too_much),
        ("PAYMENT_NOT_SUCCEEDED", refund_of_a_failed_payment),
    ],
)
def test_a_refusal_is_final_too(
    remembering: Checkout,
    reason: str,
    prepare: Callable[[Checkout], tuple[Any, str, dict[str, Any]]],
) -> None:
    """Stored with its entry in the history, and repeated byte for byte."""
    client, rpc, fields = prepare(remembering)
    fields["idempotency_key"] = new_key()

    def refusal_now() -> Refusal:
        with refused(grpc.StatusCode.FAILED_PRECONDITION, reason) as refusal:
            client.answer(rpc, **fields)
        return refusal

    first = refusal_now()
    orders, payments = history_of(remembering)
    last = (payments if rpc == "RefundPayment" else orders)[-1]
    assert (last.outcome, last.reason) == ("refused", reason)
    again = refusal_now()
    details = "grpc-status-details-bin"
    assert again.trailers[details] == first.trailers[details]
    assert (first.is_replayed, again.is_replayed) == (False, True)
    assert history_of(remembering) == (orders, payments)

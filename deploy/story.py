"""The checkout that the demo walks through. Every step raises Unexpected when it goes wrong."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from checkout.order.v1 import order_audit_pb2, order_pb2, order_service_pb2
from checkout.payment.v1 import payment_audit_pb2, payment_pb2, payment_service_pb2
from deploy.client import Answer, flat
from deploy.screen import amount
from deploy.stage import BOB, NOBODY, OLGA, Stage, euro, new_key, status_of

MUGS: Final = order_service_pb2.NewOrderItem(
    sku="MUG-1", name="Mug", quantity=2, unit_price=euro(1250)
)
SHIRT: Final = order_service_pb2.NewOrderItem(
    sku="TEE-M", name="T-shirt, M", quantity=1, unit_price=euro(1500)
)

VISA: Final = "tok_visa"
MASTERCARD: Final = "tok_mastercard"
SLOW: Final = "tok_slow"
EXPIRED_CARD: Final = "tok_chargeDeclinedExpiredCard"

Entry = order_audit_pb2.OrderAuditEntry | payment_audit_pb2.PaymentAuditEntry


@dataclass(frozen=True)
class PaidInOneCall:
    """An order that PayOrder paid, with the request and its answer."""

    order: order_pb2.Order
    request: order_service_pb2.PayOrderRequest
    answer: Answer[order_service_pb2.PayOrderResponse]


def tell(stage: Stage) -> None:
    """Walk through all steps."""
    order = place_an_order(stage)
    payment = pay_its_ticket(stage, order)
    mark_it_paid(stage, order, payment)
    read_it(stage, order)
    second = pay_in_one_call(stage)
    click_twice(stage, second)
    try_another_card(stage)
    pay_a_cancelled_order(stage)
    crash_while_paying(stage)
    give_money_back(stage, order)
    compare_with_the_gateway(stage)
    read_the_history(stage, order)
    follow_the_trace(stage, second)
    verify_everything(stage)


def tell_secured(stage: Stage) -> None:
    """Walk through all steps, and through what a caller without credentials meets."""
    tell(stage)
    order = ask_as_nobody(stage)
    ask_as_somebody_else(stage, order)


def place_an_order(stage: Stage) -> order_pb2.Order:
    """Order two items."""
    stage.screen.step("Alice orders two things")
    order = stage.place(MUGS, SHIRT)
    items = [(f"{item.quantity} {item.name}", amount(item.line_total)) for item in order.items]
    stage.screen.facts([*items, ("total", amount(order.total_amount))])
    stage.expect("the service computed the total", "40.00 EUR", amount(order.total_amount))
    return order


def pay_its_ticket(stage: Stage, order: order_pb2.Order) -> payment_pb2.Payment:
    """Charge a token with the amount that the order's ticket states."""
    stage.screen.step("She pays its ticket at the payment service")
    request = payment_service_pb2.ProcessPaymentRequest(
        idempotency_key=new_key(), payment_ticket=order.payment_ticket, payment_token=VISA
    )
    payment = stage.call(stage.payments.ProcessPayment, request).message.payment
    stage.show("ProcessPayment", payment, "succeeded")
    stage.expect(
        f"it took {amount(payment.amount)}, as the signed ticket says: she sent no amount",
        order.total_amount,
        payment.amount,
    )
    return payment


def mark_it_paid(stage: Stage, order: order_pb2.Order, payment: payment_pb2.Payment) -> None:
    """Tell the order service of the payment."""
    stage.screen.step("She tells the order service")
    request = order_service_pb2.MarkOrderPaidRequest(
        idempotency_key=new_key(), order_id=order.id, transaction_id=payment.id
    )
    answer = stage.call(stage.orders.MarkOrderPaid, request)
    stage.show("MarkOrderPaid", answer.message.order, "paid")
    asked = stage.was_logged(stage.pair.payment, "GetPayment", answer.trace_id)
    stage.expect("it took nobody's word for it and asked the payment service", True, asked)


def read_it(stage: Stage, order: order_pb2.Order) -> None:
    """Read the order back."""
    stage.screen.step("The order, read back")
    read = stage.read(order)
    stage.screen.answered("GetOrder", "")
    created = read.create_time.ToDatetime().isoformat(timespec="milliseconds")
    stage.screen.facts(
        [
            ("id", read.id),
            ("customer_id", read.customer_id),
            ("status", status_of(read)),
            ("items", ", ".join(f"{item.quantity} {item.sku}" for item in read.items)),
            ("total_amount", amount(read.total_amount)),
            ("payment_transaction_id", read.payment_transaction_id),
            ("create_time", f"{created}Z"),
        ]
    )
    stage.expect("a paid order has no ticket any more", "", read.payment_ticket)


def pay_in_one_call(stage: Stage) -> PaidInOneCall:
    """Place a second order and have the order service charge it."""
    stage.screen.step("A second order, charged and marked paid in one call")
    order = stage.place(SHIRT)
    request = _pay(order, VISA)
    answer = stage.call(stage.orders.PayOrder, request)
    stage.show("PayOrder", answer.message.order, "paid")
    stage.expect("the gateway's ledger has one charge", [1500], stage.taken(order))
    return PaidInOneCall(order, request, answer)


def click_twice(stage: Stage, paid: PaidInOneCall) -> None:
    """Send the very same request again."""
    stage.screen.step("The double click: the same request with the same key")
    second = stage.call(stage.orders.PayOrder, paid.request)
    stage.show("PayOrder", second.message.order, "paid")
    stage.expect(
        "the same answer, byte for byte",
        paid.answer.message.SerializeToString(),
        second.message.SerializeToString(),
    )
    stage.expect("the service says so: idempotency-replayed: true", True, second.replayed)
    stage.expect("the gateway's ledger still has one charge", [1500], stage.taken(paid.order))


def try_another_card(stage: Stage) -> None:
    """Be declined, then pay with another token."""
    stage.screen.step("A declined card, then another one")
    order = stage.place(MUGS)
    declined = stage.refused(stage.orders.PayOrder, _pay(order, EXPIRED_CARD))
    told = (declined.reason, declined.metadata.get("decline_code"))
    stage.expect("the decline code is expired_card", ("PAYMENT_DECLINED", "expired_card"), told)
    stage.expect("the order is still created", "created", status_of(stage.read(order)))
    paid = stage.call(stage.orders.PayOrder, _pay(order, MASTERCARD)).message.order
    stage.show("PayOrder", paid, "paid")
    stage.expect("the gateway's ledger has one charge", [2500], stage.taken(order))


def pay_a_cancelled_order(stage: Stage) -> None:
    """Cancel an order and try to pay it."""
    stage.screen.step("Paying a cancelled order, and all that the refusal says")
    order = stage.place(SHIRT)
    cancel = order_service_pb2.CancelOrderRequest(idempotency_key=new_key(), order_id=order.id)
    cancelled = stage.call(stage.orders.CancelOrder, cancel).message.order
    stage.show("CancelOrder", cancelled, "cancelled")
    refused = stage.refused(stage.orders.PayOrder, _pay(order, VISA))
    names = [detail.DESCRIPTOR.name for detail in refused.details]
    stage.screen.groups({name: list(flat(refused.facts(name))) for name in names})
    stage.expect("the code is FAILED_PRECONDITION", "FAILED_PRECONDITION", refused.code.name)
    stage.expect(
        "a person can read why",
        [f"orders/{order.id}"],
        [v["subject"] for v in refused.facts("PreconditionFailure")["violations"]],
    )
    stage.expect(
        "a program can decide by it",
        {"current_status": "cancelled", "attempted": "pay", "allowed": []},
        refused.facts("InvalidTransition"),
    )
    stage.expect("the gateway's ledger has no charge", [], stage.taken(order))


def crash_while_paying(stage: Stage) -> None:
    """Kill both services in the middle of a charge, and send the same request again."""
    stage.screen.step("A crash: kill -9 of both services while the gateway takes its time")
    order = stage.place(MUGS)
    request = _pay(order, SLOW)
    stage.crash_during(request, order)
    stage.expect(
        "the gateway had taken the money, neither service had written it down",
        [2500],
        stage.taken(order),
    )
    answer = stage.call(stage.orders.PayOrder, request)
    stage.show("PayOrder", answer.message.order, "paid")
    stage.expect("the gateway's ledger still has one charge", [2500], stage.taken(order))
    stage.expect(
        "the order has one payment and says so once",
        ["order_created", "order_paid"],
        _events(_order_entries(stage, order)),
    )


def give_money_back(stage: Stage, order: order_pb2.Order) -> None:
    """Refund a part of the order, then the rest."""
    stage.screen.step("Olga gives back a part, then the rest")
    part = order_service_pb2.RefundOrderRequest(
        idempotency_key=new_key(), order_id=order.id, amount=euro(1250)
    )
    left = stage.call(stage.orders.RefundOrder, part, OLGA).message.order
    stage.show("RefundOrder", left, "paid")
    stage.expect("12.50 EUR of 40.00 EUR is back", "12.50 EUR", amount(left.refunded_amount))
    rest = order_service_pb2.RefundOrderRequest(idempotency_key=new_key(), order_id=order.id)
    back = stage.call(stage.orders.RefundOrder, rest, OLGA).message.order
    stage.show("RefundOrder", back, "refunded")
    stage.expect("40.00 EUR of 40.00 EUR is back", "40.00 EUR", amount(back.refunded_amount))
    stage.expect("the gateway's ledger has two refunds", [1250, 2750], stage.given_back(order))


def compare_with_the_gateway(stage: Stage) -> None:
    """List all orders, and hold each against what the gateway booked."""
    stage.screen.step("Every order, held against the gateway's own ledger")
    request = order_service_pb2.ListOrdersRequest()
    orders = stage.call(stage.orders.ListOrders, request).message.orders
    stage.screen.answered("ListOrders", "newest first")
    kept = {order.id: sum(stage.taken(order)) - sum(stage.given_back(order)) for order in orders}
    stage.screen.table(
        ["order", "status", "total", "at the gateway"],
        [
            (order.id, status_of(order), amount(order.total_amount), amount(euro(kept[order.id])))
            for order in orders
        ],
    )
    stage.expect("all five orders are there", 5, len(orders))
    owed = {o.id: o.total_amount.minor_units if status_of(o) == "paid" else 0 for o in orders}
    stage.expect("the gateway keeps the money of the paid ones, and no other", owed, kept)


def read_the_history(stage: Stage, order: order_pb2.Order) -> None:
    """Read all that happened to the first order."""
    stage.screen.step("The history of the first order")
    entries = _order_entries(stage, order)
    stage.screen.answered("ListOrderAuditEntries", "")
    stage.screen.table(
        ["#", "event", "status", "by"],
        [(str(e.sequence), e.event_type, _change(e), e.actor_id) for e in entries],
    )
    stage.expect(
        "one entry per change, written in its transaction",
        ["order_created", "order_paid", "order_partially_refunded", "order_refunded"],
        [entry.event_type for entry in entries],
    )


def follow_the_trace(stage: Stage, paid: PaidInOneCall) -> None:
    """Find one call in both services' histories."""
    stage.screen.step("One trace id in both histories: the PayOrder call that was clicked twice")
    request = payment_service_pb2.ListPaymentAuditEntriesRequest(order_id=paid.order.id)
    answer = stage.call(stage.payments.ListPaymentAuditEntries, request, OLGA)
    trace_id = paid.answer.trace_id
    orders = [e for e in _order_entries(stage, paid.order) if e.trace_id == trace_id]
    payments = [e for e in answer.message.entries if e.trace_id == trace_id]
    stage.screen.facts([("x-trace-id", trace_id)])
    stage.screen.table(
        ["in the", "event", "status", "by"],
        [*_rows("order service", orders), *_rows("payment service", payments)],
    )
    stage.expect("the order service has the change", ["order_paid"], _events(orders))
    stage.expect(
        "the payment service has the charge",
        ["payment_requested", "payment_succeeded"],
        _events(payments),
    )
    logged = [
        stage.was_logged(stage.pair.order, "PayOrder", trace_id),
        stage.was_logged(stage.pair.payment, "ProcessPayment", trace_id),
    ]
    stage.expect("so have both logs", [True, True], logged)


def verify_everything(stage: Stage) -> None:
    """Hold both databases against the ledger with the command that operators have."""
    stage.screen.step("Every guarantee, checked against both databases and the gateway's ledger")
    told = stage.pair.order.command("verify")
    stage.screen.facts([("python -m order_service verify", told)])
    stage.expect("nothing is paid twice, nothing is lost", "0 violations in 5 orders", told)


def ask_as_nobody(stage: Stage) -> order_pb2.Order:
    """Ask for an order without a token."""
    stage.screen.step("Without a token there is nobody, whatever else a call says")
    order = stage.place(SHIRT)
    request = order_service_pb2.GetOrderRequest(order_id=order.id)
    refused = stage.refused(stage.orders.GetOrder, request, NOBODY)
    stage.expect("the code is UNAUTHENTICATED", "UNAUTHENTICATED", refused.code.name)
    stage.expect("it says what is missing", {"header": "authorization"}, refused.metadata)
    return order


def ask_as_somebody_else(stage: Stage, order: order_pb2.Order) -> None:
    """Ask for somebody else's order, and for one that does not exist."""
    stage.screen.step("Bob, who has a token of his own, asks for Alice's order")
    told = []
    for order_id in (order.id, f"ord_{'0' * 32}"):
        request = order_service_pb2.GetOrderRequest(order_id=order_id)
        refused = stage.refused(stage.orders.GetOrder, request, BOB)
        facts = [refused.facts(detail.DESCRIPTOR.name) for detail in refused.details]
        told.append(f"{refused.message} {facts}".replace(order_id, "…"))
    stage.expect("he is told what he is told of one that does not exist", told[1], told[0])


def _pay(order: order_pb2.Order, token: str) -> order_service_pb2.PayOrderRequest:
    return order_service_pb2.PayOrderRequest(
        idempotency_key=new_key(), order_id=order.id, payment_token=token
    )


def _order_entries(stage: Stage, order: order_pb2.Order) -> list[order_audit_pb2.OrderAuditEntry]:
    request = order_service_pb2.ListOrderAuditEntriesRequest(order_id=order.id)
    return list(stage.call(stage.orders.ListOrderAuditEntries, request, OLGA).message.entries)


def _rows(service: str, entries: Iterable[Entry]) -> list[tuple[str, ...]]:
    return [(service, e.event_type, _change(e), _who(e)) for e in entries]


def _events(entries: Iterable[Entry]) -> list[str]:
    return [entry.event_type for entry in entries]


def _change(entry: Entry) -> str:
    return f"{entry.from_status} → {entry.to_status}".strip()


def _who(entry: Entry) -> str:
    return f"{entry.actor_id} for {entry.on_behalf_of}" if entry.on_behalf_of else entry.actor_id

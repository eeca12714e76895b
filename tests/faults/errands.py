"""The calls that move money, each with what has to be there before it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from tests.builders import money, new_order_items
from tests.client import ALICE, OPERATIONS
from tests.faults.history import Answered, Request, ask
from tests.faults.lines import Lines

TOTAL: Final = 4000

CHARGE_TOKENS: Final = (
    *("tok_visa",) * 4,
    "tok_chargeDeclined",
    "tok_timeoutBeforeCharge",
    "tok_timeoutAfterCharge",
    "tok_slow",
)
REFUND_TOKENS: Final = (
    *("tok_visa",) * 3,
    "tok_refundFail",
    "tok_refundTimeoutAfter",
    "tok_refundSlow",
)


def placed(lines: Lines) -> str:
    """Place an order, and return its id."""
    call = lines.answered(ask("CreateOrder", ALICE, items=new_order_items(TOTAL)))
    assert isinstance(call.outcome, Answered)
    assert call.outcome.order is not None
    return call.outcome.order.id


def paid(lines: Lines, token: str = "tok_visa") -> str:
    """Place an order and pay it, and return its id."""
    order_id = placed(lines)
    lines.answered(ask("PayOrder", ALICE, order_id=order_id, payment_token=token))
    return order_id


def process_payment(lines: Lines, order_id: str, token: str = "tok_visa") -> Request:
    """Build the request that pays an order's ticket at the payment service."""
    ticket = lines.checkout.order(order_id).payment_ticket
    return ask("ProcessPayment", ALICE, about=order_id, payment_ticket=ticket, payment_token=token)


def pay(lines: Lines) -> Request:
    """An order waits to be paid."""
    token = lines.random.choice(CHARGE_TOKENS)
    return ask("PayOrder", ALICE, order_id=placed(lines), payment_token=token)


def cancel(lines: Lines) -> Request:
    """An order waits to be cancelled."""
    return ask("CancelOrder", ALICE, order_id=placed(lines))


def refund(lines: Lines) -> Request:
    """A paid order waits for its money to go back, or a part of it."""
    order_id = paid(lines, lines.random.choice(REFUND_TOKENS))
    amount = lines.random.choice([None, money(TOTAL), money(lines.random.randrange(1, TOTAL))])
    return ask("RefundOrder", OPERATIONS, order_id=order_id, amount=amount)


def mark_paid(lines: Lines) -> Request:
    """An order was paid at the payment service, and the order service has not been told."""
    order_id = placed(lines)
    call = lines.answered(process_payment(lines, order_id))
    assert isinstance(call.outcome, Answered)
    assert call.outcome.payment is not None
    return ask("MarkOrderPaid", ALICE, order_id=order_id, transaction_id=call.outcome.payment.id)


ERRANDS: Final[Mapping[str, Callable[[Lines], Request]]] = MappingProxyType(
    {"pay": pay, "cancel": cancel, "refund": refund, "mark paid": mark_paid}
)

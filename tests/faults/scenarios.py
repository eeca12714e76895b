"""What leads to each named point: the request during which a service dies, and what precedes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.builders import money, new_key, new_order_items
from tests.client import ALICE, OPERATIONS, SHOP
from tests.faults.clients import TOTAL, Client
from tests.faults.history import Answered, Request, ask

ORDER: Final = "order_service"
PAYMENT: Final = "payment_service"

# Returns the request, ready to be sent under the key; what has to be there before is there.
Prepare = Callable[[Client, str], Request]


@dataclass(frozen=True)
class Scenario:
    """A request, and the points that it passes in one of the services."""

    name: str
    victim: str
    operation: str
    moments: Sequence[str]
    prepare: Prepare

    @property
    def points(self) -> list[str]:
        """The names of the points."""
        return [f"{self.operation}.{moment}" for moment in self.moments]


def create(client: Client, key: str) -> Request:
    """Place an order."""
    return ask("CreateOrder", ALICE, idempotency_key=key, items=new_order_items(TOTAL))


def pay(client: Client, key: str) -> Request:
    """Pay an order."""
    return _pay(client.place(), key, "tok_visa")


def pay_in_vain(client: Client, key: str) -> Request:
    """Pay an order by a card that is declined."""
    return _pay(client.place(), key, "tok_chargeDeclined")


def mark(client: Client, key: str) -> Request:
    """Report a payment that was made without the order service."""
    order = client.place()
    payment = client.pay_directly(order)
    return ask(
        "MarkOrderPaid", ALICE, idempotency_key=key, order_id=order.id, transaction_id=payment
    )


def cancel(client: Client, key: str) -> Request:
    """Cancel an order that nobody has paid."""
    return ask("CancelOrder", ALICE, idempotency_key=key, order_id=client.place().id)


def cancel_too_late(client: Client, key: str) -> Request:
    """Cancel an order whose payment has just succeeded."""
    order = client.place()
    client.pay_directly(order)
    return ask("CancelOrder", ALICE, idempotency_key=key, order_id=order.id)


def cancel_in_between(client: Client, key: str) -> Request:
    """Cancel an order whose payment has not been answered by the gateway."""
    order = client.place()
    client.once(direct_payment(order, "tok_timeoutBeforeCharge"))
    return ask("CancelOrder", ALICE, idempotency_key=key, order_id=order.id)


def fulfill(client: Client, key: str) -> Request:
    """Deliver a paid order."""
    return ask("FulfillOrder", SHOP, idempotency_key=key, order_id=_paid(client))


def archive(client: Client, key: str) -> Request:
    """Put a delivered order away."""
    order_id = _paid(client)
    client.insist(ask("FulfillOrder", SHOP, order_id=order_id))
    return ask("ArchiveOrder", SHOP, idempotency_key=key, order_id=order_id)


def refund(client: Client, key: str) -> Request:
    """Give all of it back."""
    return ask("RefundOrder", OPERATIONS, idempotency_key=key, order_id=_paid(client))


def refund_a_part(client: Client, key: str) -> Request:
    """Give a part of it back."""
    order_id = _paid(client)
    return ask(
        "RefundOrder", OPERATIONS, idempotency_key=key, order_id=order_id, amount=money(1000)
    )


def refund_in_vain(client: Client, key: str) -> Request:
    """Try to give it back, and be declined."""
    order_id = _paid(client, "tok_refundFail")
    return ask("RefundOrder", OPERATIONS, idempotency_key=key, order_id=order_id)


def pay_directly(client: Client, key: str) -> Request:
    """Pay an order's ticket at the payment service."""
    return direct_payment(client.place(), "tok_visa", key)


def leave_unfinished(client: Client) -> None:
    """Pay an order, and do not learn what came of it."""
    client.deliver(_pay(client.place(), new_key(), "tok_timeoutAfterCharge"))


def leave_refund_pending(client: Client) -> None:
    """Have money given back, and lose the gateway's answer."""
    order_id = _paid(client, "tok_refundTimeoutAfter")
    client.deliver(ask("RefundOrder", OPERATIONS, order_id=order_id))


def direct_payment(order: Any, token: str, key: str = "") -> Request:
    """Build the request that pays a ticket."""
    named = {"idempotency_key": key} if key else {}
    return ask(
        "ProcessPayment",
        ALICE,
        about=order.id,
        payment_ticket=order.payment_ticket,
        payment_token=token,
        **named,
    )


def _pay(order: Any, key: str, token: str) -> Request:
    return ask("PayOrder", ALICE, idempotency_key=key, order_id=order.id, payment_token=token)


def _paid(client: Client, token: str = "tok_visa") -> str:
    order = client.place()
    call = client.insist(ask("PayOrder", ALICE, order_id=order.id, payment_token=token))
    assert isinstance(call.outcome, Answered), call
    order_id: str = order.id
    return order_id


_CHANGE: Final = ("before_change", "in_change", "after_change", "after_memory")
_REMOTE: Final = (
    *("before_intent", "in_intent", "after_intent"),
    *("before_call", "after_call"),
    *("in_outcome", "after_outcome", "after_memory"),
)
_GATEWAY: Final = tuple(moment.replace("call", "gateway") for moment in _REMOTE)
_ENDING: Final = ("after_call", "in_outcome", "after_outcome")

# Requests that touch money: each point is tried with a client that returns and with one that
# does not.
MONEY: Final = (
    Scenario("pay", ORDER, "pay", _REMOTE, pay),
    Scenario("pay_in_vain", ORDER, "pay", _ENDING, pay_in_vain),
    Scenario("cancel", ORDER, "cancel", _REMOTE, cancel),
    Scenario("cancel_too_late", ORDER, "cancel", _ENDING, cancel_too_late),
    Scenario("refund", ORDER, "refund", _REMOTE, refund),
    Scenario("refund_a_part", ORDER, "refund", _ENDING, refund_a_part),
    Scenario("refund_in_vain", ORDER, "refund", _ENDING, refund_in_vain),
    Scenario("pay", PAYMENT, "process", _GATEWAY, pay),
    Scenario("pay_in_vain", PAYMENT, "process", ("after_gateway", "in_outcome"), pay_in_vain),
    Scenario("pay_directly", PAYMENT, "process", _GATEWAY, pay_directly),
    Scenario("refund", PAYMENT, "give_back", _GATEWAY, refund),
    Scenario("cancel", PAYMENT, "seal", ("before_seal", "in_seal", "after_seal"), cancel),
    Scenario(
        "cancel_in_between",
        PAYMENT,
        "seal",
        ("after_seal", "before_gateway", "after_gateway", "in_outcome", "after_outcome"),
        cancel_in_between,
    ),
)

# Requests of one transaction: whoever does not return has left either all of it or nothing.
OTHERS: Final = (
    Scenario("create", ORDER, "create", _CHANGE, create),
    Scenario("mark", ORDER, "mark", ("before_call", "after_call", *_CHANGE), mark),
    Scenario("fulfill", ORDER, "fulfill", _CHANGE, fulfill),
    Scenario("archive", ORDER, "archive", _CHANGE, archive),
)

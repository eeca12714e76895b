"""Calls whose outcome the gateway does not tell at first."""

from typing import Any, Final

import grpc

from checkout.order.v1 import order_pb2
from payment_service.gateways.simulated_tokens import TOKENS, FirstAnswer
from tests.assertions import Refusal, refused
from tests.builders import new_key
from tests.checkout import Checkout
from tests.client import ALICE, OPERATIONS

# What every order here costs.
TOTAL: Final = 4000

# No answer comes to the first request.
LOST: Final = [
    name
    for name, token in TOKENS.items()
    if token.charge in {FirstAnswer.LOST_BEFORE, FirstAnswer.LOST_AFTER}
]


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

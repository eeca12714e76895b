"""What the payment service and the gateway must do, as simply as it can be said.

One call at a time, no database, no lease, no worker: of a payment only what others can see of it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from payment_service.gateways.simulated_tokens import TOKENS, FirstAnswer

# From this age on a key is only looked up at the gateway.
KEY_AGE_MAX: Final = timedelta(hours=12)

LIVE: Final = ("pending", "succeeded")


@dataclass
class Payment:
    """An attempt to pay. `id` is empty until an answer has told it.

    `what` is what was asked under its key; None if it was resolved before it was asked. `charged`
    says whether the gateway has booked it. `reply` is its final reply, once somebody has seen it.
    """

    order_id: str
    scope: tuple[str, str, str]
    what: Any
    token: str
    created_at: datetime
    status: str = "pending"
    charged: bool = False
    is_asked: bool = False
    id: str = ""
    reply: bytes | None = None

    @property
    def takes_money(self) -> bool:
        """Whether the gateway has its money."""
        return self.charged and not TOKENS[self.token].charge_decline_code


@dataclass
class Refund:
    """An amount that is to be given back, as far as the gateway has come with it."""

    token: str
    amount: int
    is_asked: bool = False

    def ask(self) -> str:
        """Ask the gateway. Returns the status."""
        token = TOKENS[self.token]
        first, self.is_asked = not self.is_asked, True
        if first and token.refund is FirstAnswer.LOST_AFTER:
            return "pending"
        return "failed" if token.refund_decline_code else "succeeded"


@dataclass
class Payments:
    """All payments, and the orders that take no more."""

    all: list[Payment] = field(default_factory=list)
    sealed: set[str] = field(default_factory=set)

    def of_key(self, scope: tuple[str, str, str]) -> Payment | None:
        """Find what became of a caller's key."""
        return next((payment for payment in self.all if payment.scope == scope), None)

    def of_order(self, order_id: str) -> list[Payment]:
        """List the attempts to pay an order."""
        return [payment for payment in self.all if payment.order_id == order_id]

    def live(self, order_id: str) -> Payment | None:
        """Find the payment that has, or may have, the order's money."""
        return next((p for p in self.of_order(order_id) if p.status in LIVE), None)

    def process(
        self, order_id: str, scope: tuple[str, str, str], what: Any, token: str, now: datetime
    ) -> Payment:
        """Charge a token, once per key and order."""
        payment = self.of_key(scope)
        if payment is None:
            refused = order_id in self.sealed or self.live(order_id) is not None
            payment = Payment(order_id, scope, what, token, created_at=now)
            payment.status = "voided" if refused else "pending"
            self.all.append(payment)
        return self.ask(payment, now)

    def resolve(self, order_id: str, scope: tuple[str, str, str], now: datetime) -> Payment:
        """Find what became of a call; one that has not arrived never will."""
        payment = self.of_key(scope)
        if payment is None:
            payment = Payment(order_id, scope, None, "", created_at=now, status="voided")
            self.all.append(payment)
        return self.ask(payment, now)

    def seal(self, order_id: str, now: datetime) -> Payment | None:
        """Take no more payments of an order. Returns the live one."""
        self.sealed.add(order_id)
        live = self.live(order_id)
        if live:
            self.ask(live, now)
        return self.live(order_id)

    def ask(self, payment: Payment, now: datetime) -> Payment:
        """Ask the gateway about a payment that is pending; with an old key only look it up."""
        if payment.status != "pending":
            return payment
        token = TOKENS[payment.token]
        if now - payment.created_at <= KEY_AGE_MAX:
            first, payment.is_asked = not payment.is_asked, True
            if first and token.charge is FirstAnswer.LOST_BEFORE:
                return payment
            payment.charged = True
            if first and token.charge is FirstAnswer.LOST_AFTER:
                return payment
        if payment.charged:
            payment.status = "failed" if token.charge_decline_code else "succeeded"
        return payment

    def is_stuck(self, payment: Payment, now: datetime) -> bool:
        """Say whether only a person can end it: the gateway does not know it, and will not."""
        too_old = now - payment.created_at > KEY_AGE_MAX
        return payment.status == "pending" and too_old and not payment.charged

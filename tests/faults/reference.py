"""What the order service must answer and do, as simply as it can be said.

One call at a time, no database, no lease, no transaction: an order is what anybody can see of it,
its history, and the operation under way. `expect` is told what was really answered, and looks at
it only where more than one answer is right: while the payment service is away.
"""

import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

from payment_service.gateways.simulated_tokens import TOKENS
from tests.faults.reference_payments import Payment, Payments, Refund
from tests.faults.requests import CURRENCY, Request

KEYS_KEPT: Final = timedelta(hours=24)
LEFT_BEHIND: Final = timedelta(seconds=5)

OK: Final = "OK"
INVALID_TRANSITION: Final = "INVALID_TRANSITION"
IN_PROGRESS: Final = ("PAYMENT_IN_PROGRESS", "REFUND_IN_PROGRESS")
UNKNOWN: Final = "PAYMENT_OUTCOME_UNKNOWN"
AWAY: Final = "PAYMENT_SERVICE_UNAVAILABLE"

# Who may call what.
ROLES: Final = MappingProxyType(
    {
        "CreateOrder": ("customer", "service"),
        "PayOrder": ("customer", "service"),
        "ProcessPayment": ("customer", "service"),
        "MarkOrderPaid": ("customer", "service", "operations"),
        "CancelOrder": ("customer", "service", "operations"),
        "FulfillOrder": ("service", "operations"),
        "ArchiveOrder": ("service", "operations"),
        "RefundOrder": ("operations",),
    }
)

# From which status each change is allowed.
FROM: Final = MappingProxyType(
    {
        "PayOrder": "created",
        "MarkOrderPaid": "created",
        "CancelOrder": "created",
        "FulfillOrder": "paid",
        "RefundOrder": "paid",
        "ArchiveOrder": "fulfilled",
    }
)

# What a final refusal leaves in the history.
REFUSALS: Final = MappingProxyType(
    {
        INVALID_TRANSITION: "invalid_transition_attempted",
        "PAYMENT_DECLINED": "payment_failed",
        "PAYMENT_MISMATCH": "payment_refused",
        "PAYMENT_NOT_SUCCEEDED": "payment_refused",
        "REFUND_DECLINED": "refund_failed",
        "REFUND_EXCEEDS_PAYMENT": "refund_refused",
    }
)


class View(NamedTuple):
    """What a reader sees of an order. A payment whose id nobody has seen yet is `?`."""

    status: str
    etag: str
    refunded: int
    payment_id: str
    pending: str


@dataclass
class Operation:
    """A charge, a cancellation or a refund under way, for the request that began it."""

    kind: str
    request: Request
    started_at: datetime
    refund: Refund | None = None
    # A worker has tried, and nobody saw what came of it.
    may_be_asked: bool = False
    number: int = field(default_factory=itertools.count().__next__)

    @property
    def scope(self) -> tuple[str, str, str]:
        """Under which key the payment service knows it."""
        return "order_service", "order-service", f"operation {self.number}"

    def note_end(self) -> None:
        """What has come to an end was asked before, if a worker may have done so."""
        if self.may_be_asked and self.refund:
            self.refund.is_asked = True


@dataclass
class Order:
    """An order."""

    id: str
    customer_id: str
    total: int
    status: str = "created"
    version: int = 1
    refunded: int = 0
    payment: Payment | None = None
    operation: Operation | None = None
    # The order service has read of a payment that was made without it.
    is_noticed: bool = False
    events: list[str] = field(default_factory=lambda: ["order_created"])

    @property
    def view(self) -> View:
        """What a reader sees."""
        return View(
            status=self.status,
            etag=str(self.version),
            refunded=self.refunded,
            payment_id=(self.payment.id or "?") if self.payment else "",
            pending=self.operation.kind if self.operation else "",
        )

    def move(self, status: str, event: str) -> None:
        """Change the status."""
        self.status, self.version = status, self.version + 1
        self.events.append(event)


@dataclass
class Key:
    """What was asked under a key, and how far that has come.

    `final` is the reason of the final reply, `reply` its bytes once somebody has seen them.
    """

    request: Request
    since: datetime
    operation: Operation | None = None
    final: str = ""
    view: View | None = None
    reply: bytes | None = None


class Expected(NamedTuple):
    """The right answer: its reason; whether it is a repeated one; the key that stores it.

    `view` is the order as the answer must show it.
    """

    reason: str
    is_replayed: bool = False
    key: Key | None = None
    view: View | None = None


class Reference:
    """All orders, keys and payments."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.orders: dict[str, Order] = {}
        self.payments = Payments()
        self.is_payment_service_there = True
        self._keys: dict[tuple[str, str, str], Key] = {}

    def expect(self, request: Request, seen: str, *, new_id: str = "") -> Expected:
        """Make a call. `new_id` is the id that a new order was given."""
        if request.caller.role not in ROLES[request.rpc]:
            return Expected("ROLE_NOT_ALLOWED")
        key = self._key(request)
        if key and key.request.what != request.what:
            return Expected("IDEMPOTENCY_KEY_REUSED")
        if key and key.final:
            return Expected(key.final, is_replayed=True, key=key, view=key.view)
        if request.rpc == "CreateOrder":
            customer_id = request.customer_id or request.caller.id
            order = self.orders[new_id] = Order(new_id, customer_id, request.total)
            return self._final(request, order, OK)
        order_or_none = self.orders.get(request.order_id)
        if order_or_none is None or not may_see(request, order_or_none):
            return Expected("ORDER_NOT_FOUND")
        order = order_or_none
        if key and key.operation:
            return self._answer(request, order, self._ask(order, key.operation, seen))
        reason = self._execute(request, order, seen)
        in_the_way = reason in IN_PROGRESS and self.is_left_behind(order)
        if in_the_way and self.settle(order, has_ended=seen not in IN_PROGRESS):
            reason = self._execute(request, order, seen)
        return self._answer(request, order, reason)

    def expect_payment(self, request: Request) -> tuple[str, Payment | None]:
        """Make a payment without the order service. Returns the reason, and the payment if OK."""
        if request.caller.role not in ROLES[request.rpc]:
            return "ROLE_NOT_ALLOWED", None
        if not may_see(request, self.orders[request.order_id]):
            return "PAYMENT_TICKET_INVALID", None
        if request.token not in TOKENS:
            return "VALIDATION_FAILED", None
        known = self.payments.of_key(request.scope)
        if known and known.what != request.what:
            return "IDEMPOTENCY_KEY_REUSED", None
        payment = self.payments.process(
            request.order_id, request.scope, request.what, request.token, self.now
        )
        return OK, payment

    # What happens without being asked for.

    def is_left_behind(self, order: Order) -> bool:
        """Say whether others may settle the order's operation."""
        operation = order.operation
        return operation is not None and self.now - operation.started_at > LEFT_BEHIND

    def settle(self, order: Order, *, has_ended: bool = False) -> bool:
        """Settle an operation that was left behind. Says whether that was possible.

        `has_ended` says that it was seen to be.
        """
        operation = order.operation
        assert operation is not None
        if not self.is_payment_service_there:
            return False
        if has_ended:
            operation.note_end()
        if operation.kind == "charge":
            payment = self.payments.resolve(order.id, operation.scope, self.now)
            return self._charged(order, operation, payment) != UNKNOWN
        return self._ask(order, operation, "") != UNKNOWN

    def read(self) -> None:
        """Notice the payments that were made without the order service."""
        for order in self.orders.values():
            live = self.payments.live(order.id)
            order.is_noticed = live is not None and live.status == "succeeded"

    def apply(self, order: Order) -> bool:
        """Have an order paid by a payment that was made without it. Says if there is one."""
        live = self.payments.live(order.id)
        free = order.status == "created" and order.operation is None
        if not free or live is None or live.status != "succeeded":
            return False
        self._paid(order, live)
        return True

    # The changes. Each returns the reason of its answer.

    def _execute(self, request: Request, order: Order, seen: str) -> str:  # noqa: PLR0911 - as many answers
        if request.etag and request.etag != str(order.version):
            return "ETAG_MISMATCH"
        if request.rpc == "MarkOrderPaid":
            return self._mark_paid(request, order)
        if order.status != FROM[request.rpc]:
            return INVALID_TRANSITION
        if order.operation:
            return IN_PROGRESS[order.operation.kind == "refund"]
        match request.rpc:
            case "FulfillOrder":
                order.move("fulfilled", "order_fulfilled")
                return OK
            case "ArchiveOrder":
                order.move("archived", "order_archived")
                return OK
            case "PayOrder" if order.is_noticed:
                return "PAYMENT_IN_PROGRESS"
            case "PayOrder":
                return self._begin(order, Operation("charge", request, self.now), seen)
            case "CancelOrder":
                return self._begin(order, Operation("cancel", request, self.now), seen)
            case _:
                return self._refund(request, order, seen)

    def _mark_paid(self, request: Request, order: Order) -> str:  # noqa: PLR0911 - as many answers
        if order.payment and order.payment.id == request.payment_id:
            return OK
        if order.status != "created":
            return INVALID_TRANSITION
        if order.operation:
            return "PAYMENT_IN_PROGRESS"
        if not self.is_payment_service_there:
            return AWAY
        payment = next((p for p in self.payments.all if p.id == request.payment_id), None)
        if payment is None or not may_see(request, self.orders[payment.order_id]):
            return "PAYMENT_NOT_FOUND"
        if payment.order_id != order.id:
            return "PAYMENT_MISMATCH"
        if payment.status == "pending":
            return "PAYMENT_IN_PROGRESS"
        if payment.status != "succeeded":
            return "PAYMENT_NOT_SUCCEEDED"
        self._paid(order, payment)
        return OK

    def _refund(self, request: Request, order: Order, seen: str) -> str:
        left = order.total - order.refunded
        amount = left if request.amount is None else request.amount
        if request.amount is not None and request.currency != CURRENCY:
            return "VALIDATION_FAILED"
        if amount > left:
            return "REFUND_EXCEEDS_PAYMENT"
        assert order.payment is not None
        refund = Refund(order.payment.token, amount)
        return self._begin(order, Operation("refund", request, self.now, refund), seen)

    def _begin(self, order: Order, operation: Operation, seen: str) -> str:
        if seen == AWAY and not self.is_payment_service_there:
            return AWAY
        order.operation = operation
        self._keys[operation.request.scope] = Key(operation.request, self.now, operation)
        return self._ask(order, operation, seen)

    def _ask(self, order: Order, operation: Operation, seen: str) -> str:
        if not self.is_payment_service_there:
            return UNKNOWN
        match operation.kind:
            case "charge":
                return self._charge(order, operation)
            case "cancel":
                return self._cancel(order, operation)
            case _:
                return self._give_back(order, operation, seen)

    def _charge(self, order: Order, operation: Operation) -> str:
        request = operation.request
        if request.token not in TOKENS:
            payment = self.payments.resolve(order.id, operation.scope, self.now)
            assert self._charged(order, operation, payment) == "PAYMENT_IN_PROGRESS"
            return "VALIDATION_FAILED"
        payment = self.payments.process(
            order.id, operation.scope, request.what, request.token, self.now
        )
        return self._charged(order, operation, payment)

    def _charged(self, order: Order, operation: Operation, payment: Payment) -> str:
        match payment.status:
            case "succeeded":
                self._paid(order, payment)
                return self._end(order, operation, OK)
            case "failed":
                return self._end(order, operation, "PAYMENT_DECLINED")
            case "voided":
                # Nothing was asked of the gateway: the key is bound, and free to begin again.
                order.operation = None
                self._keys[operation.request.scope] = Key(operation.request, self.now)
                return "PAYMENT_IN_PROGRESS"
            case _:
                return UNKNOWN

    def _cancel(self, order: Order, operation: Operation) -> str:
        live = self.payments.seal(order.id, self.now)
        if live is None:
            order.move("cancelled", "order_cancelled")
            return self._end(order, operation, OK)
        if live.status == "pending":
            return UNKNOWN
        self._paid(order, live)
        return self._end(order, operation, INVALID_TRANSITION)

    def _give_back(self, order: Order, operation: Operation, seen: str) -> str:
        refund = operation.refund
        assert refund is not None
        if seen in {OK, "REFUND_DECLINED"}:
            operation.note_end()
        match refund.ask():
            case "succeeded":
                order.refunded += refund.amount
                if order.refunded == order.total:
                    order.move("refunded", "order_refunded")
                else:
                    order.events.append("order_partially_refunded")
                return self._end(order, operation, OK)
            case "failed":
                return self._end(order, operation, "REFUND_DECLINED")
            case _:
                return UNKNOWN

    def _paid(self, order: Order, payment: Payment) -> None:
        order.payment = payment
        order.move("paid", "order_paid")

    def _end(self, order: Order, operation: Operation, reason: str) -> str:
        order.operation = None
        self._final(operation.request, order, reason)
        return reason

    # Keys.

    def _answer(self, request: Request, order: Order, reason: str) -> Expected:
        if reason != OK and reason not in REFUSALS:
            return Expected(reason)
        key = self._key(request)
        if key and key.final:
            return Expected(reason, key=key, view=key.view)
        return self._final(request, order, reason)

    def _final(self, request: Request, order: Order, reason: str) -> Expected:
        if reason != OK:
            order.events.append(REFUSALS[reason])
        key = Key(request, self.now, final=reason, view=order.view if reason == OK else None)
        self._keys[request.scope] = key
        return Expected(reason, key=key, view=key.view)

    def _key(self, request: Request) -> Key | None:
        key = self._keys.get(request.scope)
        if key and not key.operation and self.now - key.since > KEYS_KEPT:
            return None
        return key


def may_see(request: Request, order: Order) -> bool:
    """Say whether the order is shown to the caller: to a customer only their own."""
    return request.caller.role != "customer" or request.caller.id == order.customer_id

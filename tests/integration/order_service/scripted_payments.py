"""The payment service's part, played in this process: its rules are kept, its gateway scripted."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from order_service.application.ports import (
    ChargeAnswer,
    Declined,
    NoPayment,
    PaymentFacts,
    PaymentPage,
    ReceivedPayment,
    RefundAnswer,
    Refunded,
    RefundRefused,
    Rejected,
    SealAnswer,
    Succeeded,
    Unknown,
    Voided,
)
from order_service.domain.audit import Actor
from order_service.domain.errors import (
    PaymentNotFound,
    PaymentServiceUnavailable,
    RefundDeclined,
    RefundExceedsPayment,
)
from order_service.domain.money import Money
from order_service.domain.order import Order
from order_service.domain.payment_operation import PaymentOperation
from service_kit.database import transaction_is_open
from service_kit.errors import FieldViolation
from service_kit.ids import new_id

A = TypeVar("A")


class Crash(BaseException):
    """This process died: no handler may catch it."""


class Gateway(Enum):
    """What the gateway does when it is asked."""

    APPROVES = "succeeded"
    DECLINES = "failed"
    IS_SILENT = "pending"


@dataclass
class Payment:
    """A payment or, with another payment's id, a refund of it."""

    id: str
    order_id: str
    customer_id: str
    amount: Money | None
    status: str
    decline_code: str = ""

    def facts(self) -> PaymentFacts:
        """Tell it as the port does."""
        return PaymentFacts(
            id=self.id,
            order_id=self.order_id,
            customer_id=self.customer_id,
            status=self.status,
            amount=self.amount,
            decline_code=self.decline_code,
        )


class ScriptedPayments:
    """Idempotent by key; one live payment per order; a seal lasts; refunds stay within payments.

    `calls` lists what was asked: (method, key, order or payment id). While it is not `reachable`,
    nothing arrives. What is asked about one of the `poisoned` keys is refused, again and again;
    what is asked about one of those that `hang` has no answer in time.
    """

    def __init__(self) -> None:
        self.available = True
        self.reachable = True
        self.poisoned: set[str] = set()
        self.hang: set[str] = set()
        self.calls: list[tuple[str, str, str]] = []
        self._payments: dict[str, Payment] = {}
        self._refunds: dict[str, Payment] = {}
        self._history: list[ReceivedPayment] = []
        self._sealed: set[str] = set()
        self._gateway: deque[Gateway] = deque()
        self._before: deque[Callable[[], object]] = deque()
        self._after: deque[Callable[[], object]] = deque()
        self._rejected: deque[FieldViolation] = deque()

    # The script.

    def gateway_then(self, *behaviours: Gateway) -> None:
        """Say what the gateway does the next times it is asked; then it approves again."""
        self._gateway.extend(behaviours)

    def before_next(self, happens: Callable[[], object]) -> None:
        """Have something happen before the next call arrives."""
        self._before.append(happens)

    def after_next(self, happens: Callable[[], object]) -> None:
        """Have something happen between the next call's work and its answer."""
        self._after.append(happens)

    def reject_next(self, field: str) -> None:
        """Refuse to read the next charge, because of this field."""
        self._rejected.append(FieldViolation(field, "is not known to the gateway"))

    def lose_next_answer(self) -> None:
        """Do the next call's work and lose the answer."""
        self.after_next(_lose)

    def paid_directly(self, order: Order, status: str = "succeeded", **other: object) -> str:
        """Record a payment made with the order's ticket; `other` is what is wrong with it."""
        fields: dict[str, object] = {
            "order_id": order.id,
            "customer_id": order.customer_id,
            "amount": order.total,
        }
        payment = Payment(id=new_id("pay_"), status=status, **{**fields, **other})  # type: ignore[arg-type]
        self._payments[f"direct-{payment.id}"] = payment
        return payment.id

    def ends(self, payment_id: str, status: str) -> None:
        """Let a pending payment end."""
        self._payment(payment_id).status = status

    def alter(self, key: str, **wrong: object) -> None:
        """Let the payment under this key be something else, against all rules."""
        for name, value in wrong.items():
            setattr(self._payments[key], name, value)

    # What happened.

    def asked(self, method: str) -> list[str]:
        """List the keys of the calls of a method."""
        return [key for called, key, _ in self.calls if called == method]

    def payment_under(self, key: str) -> str:
        """Return the id of the payment under a key."""
        return self._payments[key].id

    def charges(self, order_id: str) -> int:
        """Count the succeeded payments of an order."""
        found = [p for p in self._payments.values() if p.order_id == order_id]
        return sum(payment.status == "succeeded" for payment in found)

    def given_back(self, payment_id: str) -> int:
        """Sum up what was given back of a payment, in minor units."""
        return sum(
            refund.amount.minor_units
            for refund in self._refunds.values()
            if refund.id == payment_id and refund.status == "succeeded" and refund.amount
        )

    # The port.

    def require_available(self) -> None:
        """See the port."""
        if not self.available:
            raise PaymentServiceUnavailable

    def charge(
        self, operation: PaymentOperation, order: Order, *, payment_token: str
    ) -> ChargeAnswer | Rejected:
        """See the port."""

        def work() -> ChargeAnswer | Rejected:
            if self._rejected:
                return Rejected((self._rejected.popleft(),))
            live = any(
                p.order_id == order.id and p.status in ("pending", "succeeded")
                for key, p in self._payments.items()
                if key != operation.id
            )
            status = "voided" if live or order.id in self._sealed else "pending"
            new = Payment(new_id("pay_"), order.id, order.customer_id, order.total, status)
            return self._asked_gateway(self._payments.setdefault(operation.id, new))

        return self._call("charge", operation.id, order.id, work) or self._unknown(operation.id)

    def resolve(self, operation: PaymentOperation) -> ChargeAnswer:
        """See the port."""

        def work() -> ChargeAnswer:
            tombstone = Payment(new_id("pay_"), operation.order_id, "", None, "voided")
            return self._asked_gateway(self._payments.setdefault(operation.id, tombstone))

        return self._call("resolve", operation.id, operation.order_id, work) or self._unknown(
            operation.id
        )

    def seal(self, operation: PaymentOperation) -> SealAnswer:
        """See the port."""

        def work() -> SealAnswer:
            self._sealed.add(operation.order_id)
            for payment in self._payments.values():
                if payment.order_id == operation.order_id and payment.status != "voided":
                    answer = self._asked_gateway(payment)
                    if isinstance(answer, Succeeded | Unknown):
                        return answer
            return NoPayment()

        return self._call("seal", operation.id, operation.order_id, work) or self._unknown(
            operation.id
        )

    def refund(self, operation: PaymentOperation) -> RefundAnswer:
        """See the port."""

        def work() -> RefundAnswer:
            payment, amount = self._payment(operation.payment_id), operation.amount
            assert payment.amount is not None
            assert amount is not None
            left = payment.amount.minor_units - self.given_back(payment.id)
            known = self._refunds.get(operation.id)
            if known is None and amount.minor_units > left:
                return RefundRefused(
                    RefundExceedsPayment(
                        payment_id=payment.id,
                        currency_code=amount.currency_code,
                        refundable=left,
                        requested=amount.minor_units,
                    )
                )
            new = Payment(payment.id, payment.order_id, payment.customer_id, amount, "pending")
            refund = self._refunds.setdefault(operation.id, new)
            match self._asked_gateway(refund):
                case Succeeded():
                    return Refunded()
                case Declined():
                    declined = RefundDeclined(
                        order_id=operation.order_id, decline_code=refund.decline_code
                    )
                    return RefundRefused(declined)
                case _:
                    return Unknown()

        return self._call("refund", operation.id, operation.payment_id, work) or self._unknown(
            operation.id
        )

    def get(self, payment_id: str, *, by: Actor) -> PaymentFacts:
        """See the port."""
        facts = self._call("get", "", payment_id, lambda: self._payment(payment_id).facts())
        if facts is None:
            raise PaymentServiceUnavailable
        return facts

    def succeeded_since(self, sequence: int) -> PaymentPage:
        """See the port."""
        if not self.reachable:
            raise PaymentServiceUnavailable
        told = {payment.payment_id for payment in self._history}
        self._history += [
            ReceivedPayment(payment.id, payment.order_id)
            for payment in self._payments.values()
            if payment.status == "succeeded" and payment.id not in told
        ]
        page = tuple(self._history[sequence : sequence + 100])
        last = sequence + len(page)
        return PaymentPage(last_sequence=last, payments=page, is_last=len(page) < 100)

    def answers(self) -> bool:
        """See the port."""
        self.calls.append(("answers", "", ""))
        return self.reachable

    def _call(self, method: str, key: str, subject: str, work: Callable[[], A]) -> A | None:
        assert not transaction_is_open(), "a remote call inside a transaction"
        self.calls.append((method, key, subject))
        if not self.reachable or {key, subject} & (self.poisoned | self.hang):
            return None
        if self._before:
            self._before.popleft()()
        answer = work()
        if self._after and self._after.popleft()() is _LOST:
            return None
        return answer

    def _unknown(self, key: str) -> Unknown:
        problem = "PAYMENT_NOT_SUCCEEDED" if key in self.poisoned else ""
        is_missing = not self.reachable or key in self.hang
        return Unknown(unreachable=is_missing, problem=problem)

    def _asked_gateway(self, payment: Payment) -> ChargeAnswer:
        if payment.status == "pending" and self._gateway:
            payment.status = self._gateway.popleft().value
        elif payment.status == "pending":
            payment.status = Gateway.APPROVES.value
        match payment.status:
            case "succeeded":
                return Succeeded(payment.facts())
            case "failed":
                payment.decline_code = "insufficient_funds"
                return Declined(payment.facts())
            case "voided":
                return Voided(payment.facts())
            case _:
                return Unknown()

    def _payment(self, payment_id: str) -> Payment:
        for payment in self._payments.values():
            if payment.id == payment_id:
                return payment
        raise PaymentNotFound(payment_id=payment_id)


_LOST = object()


def _lose() -> object:
    return _LOST

"""A client that goes through one whole checkout after the other, each in a way of its own."""

from collections.abc import Callable
from concurrent.futures import Executor
from random import Random
from typing import Any, Final

from tests.builders import money, new_order_items
from tests.client import OPERATIONS, SHOP, Caller
from tests.faults.clients import TOTAL, Client
from tests.faults.history import Answered, Call, Refused, Request, ask

_CUSTOMERS: Final = 50
_ATTEMPTS_MAX: Final = 3

# Of all requests, so many are sent twice at once, once more when they are answered, and of those
# of customers so many have their key used for something else.
_TWICE: Final = 0.1
_ONCE_MORE: Final = 0.1
_KEY_REUSED: Final = 0.05

_CHARGE_TOKENS: Final = (
    *("tok_visa",) * 6,
    *("tok_chargeDeclined", "tok_chargeDeclinedInsufficientFunds"),
    *("tok_timeoutBeforeCharge", "tok_timeoutAfterCharge", "tok_errorThenSuccess"),
    *("tok_slow", "tok_refundFail", "tok_refundTimeoutAfter", "tok_refundSlow"),
)
# Gone before the answer is there: the service has begun or not, and nobody will ask again.
_HURRY_SECONDS: Final = (0.6, 1.2)


class Shopper:
    """Does what customers, the shop and its operators do with an order, until it is done.

    `clicks` sends what is sent at the same time as something else: a thread for each shopper.
    """

    def __init__(self, client: Client, random: Random, clicks: Executor) -> None:
        self._client = client
        self._random = random
        self._clicks = clicks

    def shop(self) -> None:
        """Place an order, pay it or not, and do something with what has been paid."""
        customer = Caller("customer", f"customer-{self._random.randrange(_CUSTOMERS)}")
        order = self._place(customer)
        before, share = zip(*self._ways_to_pay(), strict=True)
        self._random.choices(before, share)[0](customer, order)
        if self._status(customer, order) == "paid":
            after, share = zip(*self._ways_on(), strict=True)
            self._random.choices(after, share)[0](order)
        self._status(customer, order)

    def _ways_to_pay(self) -> list[tuple[Callable[[Caller, Any], None], int]]:
        return [
            (self._pay, 50),
            (self._pay_directly, 10),
            (self._pay_directly_and_mark, 14),
            (self._cancel, 8),
            (self._pay_and_cancel, 6),
            (self._pay_in_two_ways, 6),
            (self._leave, 6),
        ]

    def _ways_on(self) -> list[tuple[Callable[[Any], None], int]]:
        return [
            (self._fulfill, 35),
            (self._refund_parts, 15),
            (self._refund_all, 15),
            (self._refund_and_fulfill, 10),
            (lambda _: None, 25),
        ]

    def _place(self, customer: Caller) -> Any:
        request = ask("CreateOrder", customer, items=new_order_items(TOTAL))
        call, response = self._send(request)
        assert isinstance(call.outcome, Answered), f"{call}: {call.outcome}"
        return response.order

    def _pay(self, customer: Caller, order: Any) -> None:
        for _ in range(_ATTEMPTS_MAX):
            call, _response = self._send(self._payment(customer, order))
            if not _is_refused(call, "PAYMENT_DECLINED"):
                return

    def _pay_directly(self, customer: Caller, order: Any) -> None:
        self._send(self._direct_payment(customer, order))

    def _pay_directly_and_mark(self, customer: Caller, order: Any) -> None:
        call, response = self._send(self._direct_payment(customer, order))
        assert isinstance(call.outcome, Answered), f"{call}: {call.outcome}"
        # Whatever became of it: a payment that has failed marks nothing.
        transaction = {"transaction_id": response.payment.id}
        self._send(ask("MarkOrderPaid", customer, order_id=order.id, **transaction))

    def _cancel(self, customer: Caller, order: Any) -> None:
        self._send(ask("CancelOrder", customer, order_id=order.id))

    def _pay_and_cancel(self, customer: Caller, order: Any) -> None:
        self._at_once(
            self._payment(customer, order), ask("CancelOrder", customer, order_id=order.id)
        )

    def _pay_in_two_ways(self, customer: Caller, order: Any) -> None:
        self._at_once(self._payment(customer, order), self._direct_payment(customer, order))

    def _leave(self, customer: Caller, order: Any) -> None:
        kind = self._random.choice([self._payment, self._direct_payment])
        self._client.once(kind(customer, order), timeout=self._random.uniform(*_HURRY_SECONDS))

    def _fulfill(self, order: Any) -> None:
        self._send(ask("FulfillOrder", SHOP, order_id=order.id))
        if self._random.random() < 0.5:
            self._send(ask("ArchiveOrder", SHOP, order_id=order.id))

    def _refund_all(self, order: Any) -> None:
        self._send(ask("RefundOrder", OPERATIONS, order_id=order.id))

    def _refund_parts(self, order: Any) -> None:
        for _ in range(self._random.randint(1, 3)):
            self._send(self._partial_refund(order))

    def _refund_and_fulfill(self, order: Any) -> None:
        self._at_once(self._partial_refund(order), ask("FulfillOrder", SHOP, order_id=order.id))

    def _partial_refund(self, order: Any) -> Request:
        amount = money(self._random.randrange(1, TOTAL))
        return ask("RefundOrder", OPERATIONS, order_id=order.id, amount=amount)

    def _payment(self, customer: Caller, order: Any) -> Request:
        token = self._random.choice(_CHARGE_TOKENS)
        return ask("PayOrder", customer, order_id=order.id, payment_token=token)

    def _direct_payment(self, customer: Caller, order: Any) -> Request:
        ticket, token = order.payment_ticket, self._random.choice(_CHARGE_TOKENS)
        return ask(
            "ProcessPayment", customer, about=order.id, payment_ticket=ticket, payment_token=token
        )

    def _status(self, customer: Caller, order: Any) -> str:
        outcome = self._client.insist(ask("GetOrder", customer, order_id=order.id)).outcome
        assert isinstance(outcome, Answered)
        assert outcome.order is not None
        return outcome.order.status

    def _send(self, request: Request) -> tuple[Call, Any]:
        second = None
        if self._random.random() < _TWICE:
            second = self._clicks.submit(self._client.insist, request)
        call, response = self._client.exchange(request)
        if second:
            second.result()
        if self._random.random() < _ONCE_MORE:
            self._client.insist(request)
        if request.caller.role == "customer" and self._random.random() < _KEY_REUSED:
            self._reuse_key(call)
        return call, response

    def _at_once(self, *requests: Request) -> None:
        first, second = self._random.sample(requests, 2)
        under_way = self._clicks.submit(self._client.insist, second)
        self._client.insist(first)
        under_way.result()

    def _reuse_key(self, call: Call) -> None:
        """Use the key of an order or a payment for another order: refused, once it is bound."""
        used = call.request
        is_bound = isinstance(call.outcome, Answered) or (
            isinstance(call.outcome, Refused) and call.outcome.final
        )
        if used.rpc not in {"CreateOrder", "PayOrder"} or not is_bound:
            return
        items = new_order_items(TOTAL + 1)
        other = ask("CreateOrder", used.caller, idempotency_key=used.key, items=items)
        again = self._client.insist(other)
        assert _is_refused(again, "IDEMPOTENCY_KEY_REUSED"), f"{again}: {again.outcome}"


def _is_refused(call: Call, reason: str) -> bool:
    return isinstance(call.outcome, Refused) and call.outcome.reason == reason

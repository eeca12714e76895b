"""The real services beside the reference: every call is made to both, and they must agree."""

from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, Final

from checkout.order.v1 import order_pb2
from payment_service import bootstrap
from payment_service.application.ports import Declined
from payment_service.application.settlement import ARRIVES_WITHIN
from payment_service.domain.audit import Actor
from service_kit import call
from tests.checkout import Checkout
from tests.client import OPERATIONS, SHOP, Answer
from tests.faults.background import APPLY, ASK_AGAIN, READ, SETTLE, run_dry, settle_everything
from tests.faults.facts import contradictions, facts_of
from tests.faults.reference import Expected, Key, Order, Reference, View
from tests.faults.requests import Request
from tests.system.simultaneously import Outcome, is_transient, reason_of, reply_bytes

_STATUSES: Final = {
    number: name.removeprefix("ORDER_STATUS_").lower()
    for name, number in order_pb2.OrderStatus.items()
}
_KINDS: Final = {
    number: name.removeprefix("PAYMENT_OPERATION_KIND_").lower()
    for name, number in order_pb2.PaymentOperationKind.items()
}
_PAYMENT_STATUSES: Final = ("unspecified", "pending", "succeeded", "failed", "voided")

# Longer than any wait for the next try.
_LATER: Final = timedelta(seconds=30)
_HEALING_ROUNDS_MAX: Final = 20


class Comparison:
    """One story on a running checkout, told to the reference as well."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.reference = Reference(checkout.clock.now())
        self.tickets: dict[str, str] = {}
        self._feed: dict[str, list[str]] = {}
        self._cursor = 0

    def pass_time(self, by: timedelta) -> None:
        """Move the clock."""
        self.checkout.clock.move(by)
        self.reference.now = self.checkout.clock.now()

    # Calls.

    def place(self, request: Request) -> str:
        """Place an order and return its id."""
        outcome = self.send(request)
        assert isinstance(outcome, Answer)
        order_id: str = outcome.message.order.id
        return order_id

    def send(self, request: Request) -> Outcome:
        """Make a call to both."""
        if request.rpc == "ProcessPayment":
            return self._pay_directly(request)
        outcome = request.send(self.checkout, "")
        seen = reason_of(outcome)
        new_id = outcome.message.order.id if isinstance(outcome, Answer) else ""
        expected = self.reference.expect(request, seen, new_id=new_id)
        assert seen == expected.reason, (request, expected)
        if isinstance(outcome, Answer) and request.rpc == "CreateOrder":
            self.tickets.setdefault(new_id, outcome.message.order.payment_ticket)
        if expected.key and not is_transient(outcome):
            self._compare_reply(expected.key, expected, outcome)
        if request.order_id in self.reference.orders:
            self.look(request.order_id)
        return outcome

    def refuse(self, request: Request, reason: str, **wrong: Any) -> None:
        """Make a call that never gets as far as its key, and changes nothing."""
        ticket = self.tickets.get(request.order_id, "")
        outcome = request.send(self.checkout, ticket, **wrong)
        assert reason_of(outcome) == reason, (request, wrong)
        if request.order_id in self.reference.orders:
            self.look(request.order_id)

    def look(self, order_id: str) -> None:
        """Read an order."""
        self._compare_order(self.checkout.order(order_id), self.reference.orders[order_id].view)

    def _pay_directly(self, request: Request) -> Outcome:
        known = self.reference.payments.of_key(request.scope)
        was_final = known is not None and known.status != "pending"
        outcome = request.send(self.checkout, self.tickets[request.order_id])
        reason, payment = self.reference.expect_payment(request)
        assert reason_of(outcome) == reason, request
        if payment is None:
            return outcome
        assert isinstance(outcome, Answer)
        told = outcome.message.payment
        assert _PAYMENT_STATUSES[told.status] == payment.status, (request, payment)
        assert payment.id in {"", told.id}
        assert outcome.replayed == was_final
        payment.id = told.id
        if payment.status != "pending":
            payment.reply = payment.reply or outcome.body
            assert outcome.body == payment.reply
        self.look(request.order_id)
        return outcome

    def _compare_reply(self, key: Key, expected: Expected, outcome: Outcome) -> None:
        body = reply_bytes(outcome)
        key.reply = key.reply or body
        assert body == key.reply, "another reply than the first time"
        if isinstance(outcome, Answer):
            assert outcome.replayed == expected.is_replayed
            assert expected.view is not None
            self._compare_order(outcome.message.order, expected.view)
            return
        trailers: Any = outcome.trailing_metadata() or ()
        assert ("idempotency-replayed" in dict(trailers)) == expected.is_replayed

    def _compare_order(self, told: order_pb2.Order, expected: View) -> None:
        order = self.reference.orders[told.id]
        if order.payment and told.payment_transaction_id and not order.payment.id:
            order.payment.id = told.payment_transaction_id
        paid = order.payment.id if order.payment and expected.payment_id else ""
        assert view_of(told) == expected._replace(payment_id=paid)
        assert (told.customer_id, told.total_amount.minor_units) == (order.customer_id, order.total)
        ticket = self.tickets.get(order.id, told.payment_ticket)
        assert told.payment_ticket == (ticket if expected.status == "created" else "")

    # Reading.

    def list_orders(self, customer_id: str, status: str, page_size: int) -> None:
        """List a customer's orders, page by page."""
        wanted = order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status.upper()}") if status else 0
        listed: list[str] = []
        token = ""
        while True:
            page = self.checkout.orders(SHOP).ListOrders(
                customer_id=customer_id, status=wanted, page_size=page_size, page_token=token
            )
            listed += [order.id for order in page.orders]
            token = page.next_page_token
            if not token:
                break
        assert listed == [
            order.id
            for order in reversed(self.reference.orders.values())
            if order.customer_id == customer_id and status in {"", order.status}
        ]

    def read_history(self, order_id: str) -> None:
        """Read an order's history."""
        assert self.checkout.events(order_id) == self.reference.orders[order_id].events

    def follow_history(self) -> None:
        """Read on in the history of all orders."""
        client = self.checkout.orders(SHOP)
        while True:
            entries = client.ListOrderAuditEntries(
                after_sequence=self._cursor, page_size=100
            ).entries
            if not entries:
                break
            for entry in entries:
                assert entry.sequence > self._cursor
                self._cursor = entry.sequence
                self._feed.setdefault(entry.order_id, []).append(entry.event_type)
        for order in self.reference.orders.values():
            assert self._feed[order.id] == order.events

    # Work in the background: what it does at which moment is its own affair, but not what.

    def work(self, task: str) -> None:
        """Have a task done, and see what came of it."""
        run_dry(self.checkout, task)
        if task == READ and self.reference.is_payment_service_there:
            self.reference.read()
        for order in self.reference.orders.values():
            if task == ASK_AGAIN[0]:
                self._see_payments(order)
            elif task in {SETTLE, APPLY}:
                self._see_order(order, task)

    def _see_payments(self, order: Order) -> None:
        payments = [p for p in self.reference.payments.of_order(order.id) if p.status == "pending"]
        for payment in payments:
            told = self.checkout.payments(OPERATIONS).ListPayments(order_id=order.id).payments
            statuses = Counter(_PAYMENT_STATUSES[p.status] for p in told)
            if not statuses["pending"]:
                self.reference.payments.ask(payment, self.reference.now)
            assert statuses == Counter(p.status for p in self.reference.payments.of_order(order.id))

    def _see_order(self, order: Order, task: str) -> None:
        reference = self.reference
        told = view_of(self.checkout.order(order.id)) if _is_waiting(reference, order) else None
        if told is None:
            return
        if told != order.view:
            if task == APPLY:
                assert reference.apply(order)
            else:
                assert reference.is_left_behind(order)
                assert reference.settle(order, has_ended=True)
        elif task == SETTLE and order.operation and reference.is_left_behind(order):
            order.operation.may_be_asked = True
        self.look(order.id)

    # The payment service goes and comes back.

    def take_payments_away(self) -> None:
        """Stop the payment service."""
        self.checkout.stop_payments()
        self.reference.is_payment_service_there = False

    def bring_payments_back(self) -> None:
        """Start the payment service, and wait until the order service has found it."""
        self.checkout.bring_payments_back()
        self.reference.is_payment_service_there = True

    # The end: nothing waits any more, and everything fits together.

    def settle_by_hand(self) -> None:
        """Have an operator say that no money moved, of each payment that only a person can end."""
        reference, checkout = self.reference, self.checkout
        stuck = [p for p in reference.payments.all if reference.payments.is_stuck(p, reference.now)]
        if not stuck:
            return
        # Until then what was sent last may still be on its way.
        self.pass_time(ARRIVES_WITHIN)
        settings, clock = checkout.payment_settings, checkout.clock
        with ExitStack() as stack:
            needs_human = stack.enter_context(bootstrap.needs_human(settings, clock=clock))
            settle = stack.enter_context(bootstrap.settle_by_hand(settings, clock=clock))
            cases = {case.order_id: case.id for case in needs_human()}
            deadline = stack.enter_context(call.background("settle", seconds=10))
            by = Actor(role="operations", id="olga", on_behalf_of="", trace_id="0" * 32)
            for payment in stuck:
                verdict = Declined("failed_by_operator")
                settle.payment(cases[payment.order_id], verdict, by=by, deadline=deadline)
                payment.status = "failed"

    def heal(self) -> None:
        """End what disturbs, let the workers do their work, and have a person do the rest."""
        if not self.reference.is_payment_service_there:
            self.bring_payments_back()
        self.pass_time(_LATER)
        self.settle_by_hand()
        for _ in range(_HEALING_ROUNDS_MAX):
            settle_everything(self.checkout)
            self.pass_time(_LATER)
            if not any(self._is_under_way(order) for order in self.reference.orders.values()):
                break
        for order in self.reference.orders.values():
            for payment in self.reference.payments.of_order(order.id):
                self.reference.payments.ask(payment, self.reference.now)
            while order.operation and not self.reference.settle(order):
                pass
            self.reference.apply(order)

    def _is_under_way(self, order: Order) -> bool:
        if not _is_waiting(self.reference, order):
            return False
        told = self.checkout.order(order.id)
        live = self.reference.payments.live(order.id)
        return told.HasField("pending_operation") or (
            live is not None and told.status == order_pb2.ORDER_STATUS_CREATED
        )

    def compare_everything(self) -> None:
        """Compare every order with both databases and the ledger."""
        orders, payments = self.reference.orders, self.reference.payments
        for order_id, facts in facts_of(self.checkout, list(orders)).items():
            order = orders[order_id]
            made = payments.of_order(order_id)
            self.look(order_id)
            assert contradictions(facts) == [], facts
            assert list(facts.events) == order.events, facts
            assert facts.refunded == order.refunded
            assert list(facts.charges) == [order.total for p in made if p.takes_money]
            assert Counter(status for _, status in facts.payments) == Counter(
                payment.status for payment in made
            )


def view_of(order: order_pb2.Order) -> View:
    """What a reader sees of an order."""
    pending = order.pending_operation
    return View(
        status=_STATUSES[order.status],
        etag=order.etag,
        refunded=order.refunded_amount.minor_units,
        payment_id=order.payment_transaction_id,
        pending=_KINDS[pending.kind] if order.HasField("pending_operation") else "",
    )


def _is_waiting(reference: Reference, order: Order) -> bool:
    """Say whether anything may happen to the order without a call."""
    return order.operation is not None or (
        order.status == "created" and reference.payments.live(order.id) is not None
    )

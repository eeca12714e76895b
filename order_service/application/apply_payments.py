"""Mark orders paid by payments that were made without them, if nobody else does."""

from datetime import timedelta
from typing import Final

from order_service.application.ports import PaymentFacts, Payments, ReceivedPayment, Store, Work
from order_service.domain.audit import Actor
from order_service.domain.errors import PaymentNotFound, PaymentServiceUnavailable
from order_service.domain.order import Order
from order_service.domain.state_machine import OrderStatus
from service_kit import call
from service_kit.call import Call
from service_kit.clock import Clock

ASK_SECONDS: Final = 2.0
HELD_FOR: Final = timedelta(seconds=2.5)

ORDER_NOT_FOUND: Final = "ORDER_NOT_FOUND"
PAYMENT_NOT_FOUND: Final = "PAYMENT_NOT_FOUND"
PAYMENT_INVARIANT_BROKEN: Final = "PAYMENT_INVARIANT_BROKEN"


class ApplyPayments:
    """Takes one payment from the inbox and has its order paid by it.

    It waits while an operation is in flight on the order: that operation may be the one that made
    the payment, and then settles it together with the reply of its key. While the payment service
    is away, what was taken is put back as if it had not been.
    """

    def __init__(self, *, store: Store, payments: Payments, clock: Clock) -> None:
        self._store = store
        self._payments = payments
        self._clock = clock

    def __call__(self) -> bool:
        """Apply one. Say whether there may be more to do at once."""
        now = self._clock.now()
        if not self._store.read(lambda work: work.inbox.waiting(now)):
            return False
        received = self._store.transact(lambda work: work.inbox.take(until=now + HELD_FOR, now=now))
        if received is None:
            return False
        with call.background("ApplyPayments", seconds=ASK_SECONDS) as background:
            return self._apply(received, background)

    def _apply(self, received: ReceivedPayment, background: Call) -> bool:
        payment: PaymentFacts | None = None
        problem = ""
        order = self._store.read(lambda work: work.orders.get(received.order_id))
        if order is not None and _is_free(order):
            try:
                payment = self._payments.get(received.payment_id, by=_actor(background))
            except PaymentServiceUnavailable:
                # One that is not told of by a service that is well is a matter of its own.
                if not self._payments.answers():
                    self._store.transact(lambda work: work.inbox.put_back(received.payment_id))
                    return False
            except PaymentNotFound:
                problem = PAYMENT_NOT_FOUND
        self._store.transact(lambda work: self._write(work, received, payment, problem, background))
        return True

    def _write(
        self,
        work: Work,
        received: ReceivedPayment,
        payment: PaymentFacts | None,
        problem: str,
        background: Call,
    ) -> None:
        now = self._clock.now()
        order = work.orders.lock(received.order_id)
        if order is None:
            problem = ORDER_NOT_FOUND
        elif order.payment_id == received.payment_id:
            work.inbox.apply(received.payment_id, at=now)
            return
        elif order.pending is None and order.status is not OrderStatus.CREATED:
            # Cancelled, or paid by another payment, and yet this one has succeeded.
            problem = PAYMENT_INVARIANT_BROKEN
        elif payment is not None and order.pending is None:
            if _pays_for(order, payment):
                by = _actor(background, on_behalf_of=payment.customer_id)
                order, entry = order.pay(payment_id=payment.id, by=by, at=now)
                work.orders.save(order, entry)
                work.inbox.apply(received.payment_id, at=now)
                return
            problem = PAYMENT_INVARIANT_BROKEN
        work.inbox.postpone(received.payment_id, problem=problem, now=now)


def _is_free(order: Order) -> bool:
    return order.status is OrderStatus.CREATED and order.pending is None


def _pays_for(order: Order, payment: PaymentFacts) -> bool:
    told = (payment.status, payment.order_id, payment.customer_id, payment.amount)
    return told == ("succeeded", order.id, order.customer_id, order.total)


def _actor(background: Call, *, on_behalf_of: str = "") -> Actor:
    return Actor(
        role="order_service",
        id="order-service",
        on_behalf_of=on_behalf_of,
        trace_id=background.trace.trace_id,
    )

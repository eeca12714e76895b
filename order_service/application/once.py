"""A keyed change of an order: executed once, its reply stored with it, repeated for ever."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from order_service.application.ports import Replies, Store, Work
from order_service.application.settlement import Settlement
from order_service.domain.audit import Actor
from order_service.domain.errors import (
    OrderNotFound,
    PaymentInProgress,
    RefundInProgress,
    Refusal,
)
from order_service.domain.order import Change, Order
from service_kit.call import CUSTOMER
from service_kit.clock import Clock
from service_kit.idempotency.memory import ReplyMemory
from service_kit.idempotency.record import KeyedRequest, Reply
from service_kit.ids import new_id

T = TypeVar("T")


@dataclass(frozen=True)
class ChangeOrder:
    """A request to change an existing order."""

    request: KeyedRequest
    actor: Actor
    order_id: str
    etag: str


class Once:
    """Runs the transaction of a keyed request: claim, lock, check, change, audit, reply."""

    def __init__(
        self,
        *,
        store: Store,
        memory: ReplyMemory,
        replies: Replies,
        settlement: Settlement,
        clock: Clock,
    ) -> None:
        self._store = store
        self._memory = memory
        self._replies = replies
        self._settlement = settlement
        self._clock = clock

    def place(self, request: KeyedRequest, make: Callable[[], Change]) -> Reply:
        """Store a new order and return the reply."""

        def place() -> Reply:
            order, entry = make()
            reply = Reply(ok=True, body=self._replies.response(request.method, order))
            owner_id, now = new_id("run_"), self._clock.now()

            def work(work: Work) -> Reply:
                claim = work.keys.claim(request, owner_id=owner_id, now=now, reply=reply)
                if claim.reply:
                    return claim.reply
                work.orders.add(order, entry)
                return reply

            return self._store.change(work)

        return self.remembered(request, place)

    def change(self, command: ChangeOrder, decide: Callable[[Order], Change | None]) -> Reply:
        """Change an order and return the reply.

        `decide` returns the changed order with its audit entry, or None if there is nothing
        left to do. A Refusal that it raises is recorded, stored and replied; anything else
        that it raises leaves no trace.
        """

        def work(work: Work) -> Reply:
            now = self._clock.now()
            claim = work.keys.claim(command.request, owner_id=owner_id, now=now)
            if claim.reply:
                return claim.reply
            order = locked(work, command.order_id, command.actor)
            order.require_etag(command.etag)
            try:
                change = decide(order)
            except Refusal as refusal:
                return self.refused(work, command, order, refusal)
            if change is None:
                return self._finished(work, command.request, order)
            order, entry = change
            work.orders.save(order, entry)
            return self._finished(work, command.request, order)

        owner_id = new_id("run_")
        return self.remembered(
            command.request,
            lambda: self.unblocked(command.order_id, lambda: self._store.change(work)),
        )

    def remembered(self, request: KeyedRequest, execute: Callable[[], Reply]) -> Reply:
        """Answer a repeat from the short memory; otherwise execute and remember."""
        if reply := self._memory.recall(request):
            return reply
        reply = execute()
        self._memory.remember(request, reply)
        return reply

    def unblocked(self, order_id: str, execute: Callable[[], T]) -> T:
        """Execute; if an operation that has been left behind is in the way, settle it first."""
        try:
            return execute()
        except (PaymentInProgress, RefundInProgress):
            if not self._settlement.settle_abandoned(order_id):
                raise
        return execute()

    def refused(self, work: Work, command: ChangeOrder, order: Order, refusal: Refusal) -> Reply:
        """Record and store a refusal within the transaction that found it."""
        now = self._clock.now()
        work.orders.save(order, order.refused(refusal, by=command.actor, at=now))
        reply = Reply(ok=False, body=self._replies.refusal(refusal))
        work.keys.finish(command.request, reply, now=now)
        return reply

    def _finished(self, work: Work, request: KeyedRequest, order: Order) -> Reply:
        reply = Reply(ok=True, body=self._replies.response(request.method, order))
        work.keys.finish(request, reply, now=self._clock.now())
        return reply


def locked(work: Work, order_id: str, actor: Actor) -> Order:
    """Lock an order. Raises OrderNotFound, also if it is not this customer's."""
    return visible(work.orders.lock(order_id), order_id, actor)


def visible(order: Order | None, order_id: str, actor: Actor) -> Order:
    """Return the order. Raises OrderNotFound if there is none that the actor may see."""
    hidden = order is not None and actor.role == CUSTOMER and order.customer_id != actor.id
    if order is None or hidden:
        raise OrderNotFound(order_id=order_id)
    return order

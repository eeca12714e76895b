"""Place an order."""

from dataclasses import dataclass

from order_service.application.once import Once
from order_service.domain.audit import Actor
from order_service.domain.order import Change, Order, OrderItem
from service_kit.clock import Clock
from service_kit.idempotency.record import KeyedRequest, Reply
from service_kit.ids import new_id


class CreateOrder:
    """Stores a new order in status CREATED."""

    @dataclass(frozen=True)
    class Command:
        """What to order, and for whom."""

        request: KeyedRequest
        actor: Actor
        customer_id: str
        items: tuple[OrderItem, ...]

    def __init__(self, *, once: Once, clock: Clock) -> None:
        self._once = once
        self._clock = clock

    def __call__(self, command: Command) -> Reply:
        """Place the order. Raises IdempotencyKeyReused."""
        # Outside the transaction: a transaction that is run again must place the same order.
        order_id = new_id("ord_")

        def make() -> Change:
            return Order.place(
                order_id=order_id,
                customer_id=command.customer_id,
                items=command.items,
                by=command.actor,
                at=self._clock.now(),
            )

        return self._once.place(command.request, make)

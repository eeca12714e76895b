"""Put a delivered order away."""

from order_service.application.once import ChangeOrder, Once
from order_service.domain.order import Change, Order
from order_service.domain.state_machine import OrderAction
from service_kit.clock import Clock
from service_kit.idempotency.record import Reply


class ArchiveOrder:
    """Moves an order along the arrow `archive`."""

    actions = (OrderAction.ARCHIVE,)

    def __init__(self, *, once: Once, clock: Clock) -> None:
        self._once = once
        self._clock = clock

    def __call__(self, command: ChangeOrder) -> Reply:
        """Archive the order. Raises OrderNotFound, EtagMismatch, IdempotencyKeyReused."""

        def archive(order: Order) -> Change:
            return order.archive(by=command.actor, at=self._clock.now())

        return self._once.change(command, archive)

"""Record that a paid order was delivered."""

from order_service.application.once import ChangeOrder, Once
from order_service.domain.order import Change, Order
from order_service.domain.state_machine import OrderAction
from service_kit.clock import Clock
from service_kit.idempotency.record import Reply


class FulfillOrder:
    """Moves an order along the arrow `fulfill`."""

    actions = (OrderAction.FULFILL,)

    def __init__(self, *, once: Once, clock: Clock) -> None:
        self._once = once
        self._clock = clock

    def __call__(self, command: ChangeOrder) -> Reply:
        """Fulfill the order.

        Raises OrderNotFound, EtagMismatch, RefundInProgress, IdempotencyKeyReused.
        """

        def fulfill(order: Order) -> Change:
            order.require(OrderAction.FULFILL)
            order.require_nothing_pending()
            return order.fulfill(by=command.actor, at=self._clock.now())

        return self._once.change(command, fulfill)

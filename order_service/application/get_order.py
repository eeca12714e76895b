"""Read one order."""

from order_service.application.once import visible
from order_service.application.ports import Store
from order_service.domain.audit import Actor
from order_service.domain.order import Order


class GetOrder:
    """Reads an order as it stands now."""

    def __init__(self, *, store: Store) -> None:
        self._store = store

    def __call__(self, order_id: str, actor: Actor) -> Order:
        """Return the order. Raises OrderNotFound."""
        order = self._store.read(lambda work: work.orders.get(order_id))
        return visible(order, order_id, actor)

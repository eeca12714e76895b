"""Orders at every point of their life."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from checkout.order.v1 import order_pb2
from order_service.domain.state_machine import OrderStatus
from tests.checkout import Checkout


def created(checkout: Checkout) -> order_pb2.Order:
    """An order that waits for its payment."""
    return checkout.place()


def paid(checkout: Checkout) -> order_pb2.Order:
    """An order that is paid."""
    return checkout.paid()


def fulfilled(checkout: Checkout) -> order_pb2.Order:
    """An order that was delivered."""
    return checkout.fulfill(checkout.paid())


def cancelled(checkout: Checkout) -> order_pb2.Order:
    """An order that was given up."""
    return checkout.cancel(checkout.place())


def refunded(checkout: Checkout) -> order_pb2.Order:
    """An order whose money is all back."""
    return checkout.refund(checkout.paid())


def archived(checkout: Checkout) -> order_pb2.Order:
    """An order that was delivered and put away."""
    return checkout.archive(fulfilled(checkout))


ORDER_IN: Final[Mapping[OrderStatus, Callable[[Checkout], order_pb2.Order]]] = MappingProxyType(
    {
        OrderStatus.CREATED: created,
        OrderStatus.PAID: paid,
        OrderStatus.FULFILLED: fulfilled,
        OrderStatus.CANCELLED: cancelled,
        OrderStatus.REFUNDED: refunded,
        OrderStatus.ARCHIVED: archived,
    }
)

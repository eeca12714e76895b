"""The life cycle of an order, as data. Everything else about it is derived from here."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from order_service.domain.errors import InvalidTransition


class OrderStatus(Enum):
    """Where an order stands. The value is what is stored."""

    CREATED = "created"
    PAID = "paid"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"
    ARCHIVED = "archived"


class OrderAction(Enum):
    """What can be done to an order."""

    PAY = "pay"
    CANCEL = "cancel"
    FULFILL = "fulfill"
    REFUND = "refund"
    ARCHIVE = "archive"


TRANSITIONS: Final[Mapping[tuple[OrderStatus, OrderAction], OrderStatus]] = MappingProxyType(
    {
        (OrderStatus.CREATED, OrderAction.PAY): OrderStatus.PAID,
        (OrderStatus.CREATED, OrderAction.CANCEL): OrderStatus.CANCELLED,
        (OrderStatus.PAID, OrderAction.FULFILL): OrderStatus.FULFILLED,
        (OrderStatus.PAID, OrderAction.REFUND): OrderStatus.REFUNDED,
        (OrderStatus.FULFILLED, OrderAction.ARCHIVE): OrderStatus.ARCHIVED,
    }
)


def allowed_actions(status: OrderStatus) -> tuple[OrderAction, ...]:
    """List what the status permits; nothing for the end of the life cycle."""
    return tuple(action for (source, action) in TRANSITIONS if source is status)


def can_transition(status: OrderStatus, action: OrderAction) -> bool:
    """Say whether the status permits the action."""
    return (status, action) in TRANSITIONS


def validate_transition(order_id: str, status: OrderStatus, action: OrderAction) -> OrderStatus:
    """Return the status that the action leads to. Raises InvalidTransition if there is none."""
    if not can_transition(status, action):
        raise InvalidTransition(
            order_id=order_id,
            status=status.value,
            action=action.value,
            allowed=tuple(allowed.value for allowed in allowed_actions(status)),
        )
    return TRANSITIONS[status, action]

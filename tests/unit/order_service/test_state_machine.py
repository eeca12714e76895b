"""The life cycle, walked cell by cell."""

from itertools import product

import pytest

from order_service.domain.errors import InvalidTransition
from order_service.domain.state_machine import (
    TRANSITIONS,
    OrderAction,
    OrderStatus,
    allowed_actions,
    can_transition,
    validate_transition,
)

pytestmark = pytest.mark.requirement("FR-204")


@pytest.mark.parametrize(("status", "action"), list(product(OrderStatus, OrderAction)))
def test_an_action_lands_where_the_table_says_or_is_refused(
    status: OrderStatus, action: OrderAction
) -> None:
    target = TRANSITIONS.get((status, action))

    assert can_transition(status, action) is (target is not None)
    if target is not None:
        assert validate_transition("ord_1", status, action) is target
        return
    with pytest.raises(InvalidTransition) as refused:
        validate_transition("ord_1", status, action)

    refusal = refused.value
    assert (refusal.order_id, refusal.status, refusal.action) == (
        "ord_1",
        status.value,
        action.value,
    )
    assert refusal.allowed == tuple(a.value for a in OrderAction if can_transition(status, a))


def test_there_are_exactly_the_five_arrows() -> None:
    arrows = {(source.value, target.value) for (source, _), target in TRANSITIONS.items()}

    assert arrows == {
        ("created", "paid"),
        ("created", "cancelled"),
        ("paid", "fulfilled"),
        ("paid", "refunded"),
        ("fulfilled", "archived"),
    }


def test_every_status_can_be_reached() -> None:
    assert {OrderStatus.CREATED, *TRANSITIONS.values()} == set(OrderStatus)


@pytest.mark.parametrize(
    "status", [OrderStatus.CANCELLED, OrderStatus.REFUNDED, OrderStatus.ARCHIVED]
)
def test_the_end_has_no_exit(status: OrderStatus) -> None:
    assert allowed_actions(status) == ()


def test_every_action_has_an_arrow() -> None:
    assert {action for _, action in TRANSITIONS} == set(OrderAction)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[OrderStatus.CREATED, OrderAction.ARCHIVE] = OrderStatus.ARCHIVED  # type: ignore[index]

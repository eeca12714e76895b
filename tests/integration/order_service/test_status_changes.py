"""Placing, delivering, putting away; and every status met by every action."""

import re
from collections.abc import Callable
from itertools import product

import pytest

from checkout.error.v1 import error_details_pb2
from order_service.domain.order import Order
from order_service.domain.state_machine import (
    TRANSITIONS,
    OrderAction,
    OrderStatus,
    allowed_actions,
)
from service_kit.idempotency.record import Reply
from tests.builders import money, new_key, new_order_item
from tests.integration.order_service.desk import Desk, ok, refusal
from tests.unit.order_service.builders import ALICE, SHOP, eur


@pytest.mark.requirement("FR-201")
class TestCreateOrder:
    def test_places_what_was_ordered(self, desk: Desk) -> None:
        items = [
            new_order_item(quantity=3, unit_price=money(1250)),
            new_order_item(sku="TEE-M", name="T-shirt, M", quantity=1, unit_price=money(999)),
        ]
        shown = ok(desk.call("CreateOrder", items=items))
        order = desk.order(shown.id)

        assert (order.status, order.customer_id) == (OrderStatus.CREATED, "alice")
        assert [(i.sku, i.quantity, i.line_total) for i in order.items] == [
            ("MUG-1", 3, eur(3750)),
            ("TEE-M", 1, eur(999)),
        ]
        assert (order.total, order.refunded) == (eur(4749), eur(0))
        assert shown == desk.codec.order(order)
        assert shown.payment_ticket != ""

    @pytest.mark.requirement("FR-228")
    def test_is_in_the_history_in_the_callers_name(self, desk: Desk) -> None:
        order = desk.place(by=SHOP, customer_id="bob")

        [entry] = desk.history(order)
        assert (entry.event_type.value, entry.actor) == ("order_created", SHOP)
        assert (entry.from_status, entry.to_status) == ("", "created")

    def test_gives_out_ids_that_sort_by_time(self, desk: Desk) -> None:
        ids = [desk.place().id for _ in range(3)]

        assert ids == sorted(ids)
        assert all(re.fullmatch("ord_[0-9a-f]{32}", order_id) for order_id in ids)


@pytest.mark.requirement("FR-224")
class TestDelivery:
    def test_takes_a_paid_order_to_its_end(self, desk: Desk) -> None:
        order = desk.place_paid()

        assert ok(desk.fulfill(order)).etag == "3"
        assert desk.status(order) is OrderStatus.FULFILLED
        assert ok(desk.archive(order)).etag == "4"
        assert desk.status(order) is OrderStatus.ARCHIVED
        assert desk.events(order) == [
            "order_created",
            "order_paid",
            "order_fulfilled",
            "order_archived",
        ]


def _in_status(desk: Desk, status: OrderStatus) -> Order:
    order = desk.place()
    if status is OrderStatus.CANCELLED:
        ok(desk.cancel(order))
    elif status is not OrderStatus.CREATED:
        ok(desk.pay(order))
    if status is OrderStatus.REFUNDED:
        ok(desk.refund(order))
    if status in (OrderStatus.FULFILLED, OrderStatus.ARCHIVED):
        ok(desk.fulfill(order))
    if status is OrderStatus.ARCHIVED:
        ok(desk.archive(order))
    order = desk.order(order.id)
    assert order.status is status
    return order


ACTIONS: dict[OrderAction, Callable[..., Reply]] = {
    OrderAction.PAY: Desk.pay,
    OrderAction.CANCEL: Desk.cancel,
    OrderAction.FULFILL: Desk.fulfill,
    OrderAction.REFUND: Desk.refund,
    OrderAction.ARCHIVE: Desk.archive,
}


@pytest.mark.requirement("FR-204")
@pytest.mark.parametrize(("status", "action"), list(product(OrderStatus, OrderAction)))
def test_an_action_follows_its_arrow_or_is_refused_for_good(
    desk: Desk, status: OrderStatus, action: OrderAction
) -> None:
    order, key = _in_status(desk, status), new_key()
    calls, entries = len(desk.payments.calls), len(desk.history(order))
    reply = ACTIONS[action](desk, order, key=key)

    [entry] = desk.history(order)[entries:]
    target = TRANSITIONS.get((status, action))
    if target is not None:
        ok(reply)
        assert desk.status(order) is target
        assert (entry.from_status, entry.to_status) == (status.value, target.value)
        return
    typed = refusal(reply, "INVALID_TRANSITION").detail(error_details_pb2.InvalidTransition)
    assert (typed.current_status, typed.attempted) == (status.value, action.value)
    assert list(typed.allowed) == [allowed.value for allowed in allowed_actions(status)]
    assert desk.order(order.id) == order
    assert len(desk.payments.calls) == calls
    assert (entry.event_type.value, entry.reason) == (
        "invalid_transition_attempted",
        "INVALID_TRANSITION",
    )
    assert entry.actor.trace_id == ALICE.trace_id
    assert ACTIONS[action](desk, order, key=key).body == reply.body

"""Keys are forgotten a day after their final reply, and never while money depends on them."""

from datetime import timedelta

import pytest

from order_service.application import forget_keys
from order_service.domain.order import Order
from order_service.domain.state_machine import OrderStatus
from tests.builders import new_key, new_order_items
from tests.integration.order_service.background import Background
from tests.integration.order_service.desk import ABANDONED, Desk, ok
from tests.integration.order_service.scripted_payments import Crash
from tests.integration.order_service.test_operations_left_behind import crash

DAY = timedelta(hours=24)
MINUTE = timedelta(minutes=1)


def forget(background: Background) -> None:
    background.until_nothing_is_left(background.forget)


@pytest.mark.requirement("FR-239")
class TestForgetKeys:
    def test_forgets_a_key_a_day_after_its_final_reply(self, background: Background) -> None:
        desk, key = background.desk, new_key()
        ok(desk.call("CreateOrder", items=new_order_items(), idempotency_key=key))

        desk.clock.move(DAY - MINUTE)
        forget(background)
        assert desk.key(key)

        desk.clock.move(2 * MINUTE)
        forget(background)
        assert desk.key(key) is None

    def test_counts_from_the_reply_and_not_from_the_claim(self, background: Background) -> None:
        desk, key = background.desk, new_key()
        order = left_in_flight(desk, key)
        desk.clock.move(DAY)
        assert background.until_nothing_is_left(background.settle) == 1
        assert desk.status(order) is OrderStatus.PAID

        desk.clock.move(DAY - MINUTE)
        forget(background)

        assert ok(desk.pay(order, key=key)).id == order.id
        assert desk.payments.charges(order.id) == 1

    def test_never_forgets_a_key_whose_operation_is_in_flight(self, background: Background) -> None:
        desk, key = background.desk, new_key()
        order = left_in_flight(desk, key)

        desk.clock.move(30 * DAY)
        forget(background)

        assert desk.key(key)
        assert ok(desk.pay(order, key=key)).id == order.id
        assert desk.payments.charges(order.id) == 1

    def test_forgets_a_key_without_reply_or_operation_a_day_after_its_last_use(
        self, background: Background
    ) -> None:
        desk, key = background.desk, new_key()
        order = desk.place()
        # The charge never arrives: the operation ends VOIDED, the key has no reply.
        desk.payments.before_next(crash)
        with pytest.raises(Crash):
            desk.pay(order, key=key)
        desk.clock.move(ABANDONED)
        background.until_nothing_is_left(background.settle)

        desk.clock.move(DAY + MINUTE)
        forget(background)
        assert desk.key(key) is None
        assert desk.order(order.id).pending is None

    def test_forgets_all_of_them_in_batches_oldest_first(
        self, background: Background, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk = background.desk
        monkeypatch.setattr(forget_keys, "BATCH_SIZE", 3)
        old = [new_key() for _ in range(7)]
        for key in old:
            ok(desk.call("CreateOrder", items=new_order_items(), idempotency_key=key))
            desk.clock.move(timedelta(seconds=1))
        desk.clock.move(DAY + MINUTE)
        young = [new_key() for _ in range(4)]
        for key in young:
            ok(desk.call("CreateOrder", items=new_order_items(), idempotency_key=key))

        assert background.forget()
        assert [key for key in old if desk.key(key) is None] == old[:3]
        assert background.until_nothing_is_left(background.forget) == 1

        assert [desk.key(key) for key in old] == [None] * 7
        assert all(desk.key(key) for key in young)

    def test_keeps_orders_operations_and_history(self, background: Background) -> None:
        desk = background.desk
        order = desk.place_paid()
        before = (desk.order(order.id), desk.operations(order), desk.history(order))
        desk.clock.move(30 * DAY)
        forget(background)
        assert (desk.order(order.id), desk.operations(order), desk.history(order)) == before


def left_in_flight(desk: Desk, key: str) -> Order:
    order = desk.place()
    desk.payments.after_next(crash)
    with pytest.raises(Crash):
        desk.pay(order, key=key)
    return order

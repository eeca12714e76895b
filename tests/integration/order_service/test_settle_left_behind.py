"""Operations whose callers never come back are settled by the workers, each once, none for ever."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
import sqlalchemy as sa

from order_service.application.ports import ChargeAnswer
from order_service.domain.order import Order
from order_service.domain.payment_operation import PaymentOperation
from order_service.domain.state_machine import OrderStatus
from order_service.storage.tables import payment_operations
from service_kit.database import Database
from tests.builders import new_key
from tests.integration.order_service.background import Background, open_background
from tests.integration.order_service.desk import ABANDONED, Desk, ok, open_desk
from tests.integration.order_service.scripted_payments import Crash, Gateway
from tests.integration.order_service.test_operations_left_behind import (
    WAYS,
    Way,
    crash,
    every_way,
)

MOMENTS = ("before the remote call", "after the remote call")
CHARGE = WAYS["charge"]
every_moment = pytest.mark.parametrize("moment", MOMENTS)


def left_behind(desk: Desk, way: Way, moment: str = MOMENTS[1]) -> tuple[Order, str]:
    """Begin an operation under a key, and let its caller die."""
    order, key = way.prepare(desk), new_key()
    (desk.payments.before_next if moment == MOMENTS[0] else desk.payments.after_next)(crash)
    with pytest.raises(Crash):
        way.run(desk, order, key)
    return order, key


def failing_for(
    key: str, resolve: Callable[[PaymentOperation], ChargeAnswer]
) -> Callable[[PaymentOperation], ChargeAnswer]:
    """Let the question about one operation be a bug."""

    def ask(operation: PaymentOperation) -> ChargeAnswer:
        if operation.id == key:
            raise ZeroDivisionError
        return resolve(operation)

    return ask


@pytest.mark.requirement("FR-237")
class TestSettleLeftBehind:
    @every_way
    @every_moment
    def test_ends_what_has_been_in_flight_for_more_than_five_seconds(
        self, background: Background, way: Way, moment: str
    ) -> None:
        desk = background.desk
        order, key = left_behind(desk, way, moment)
        desk.clock.move(ABANDONED)

        assert background.until_nothing_is_left(background.settle) == 1

        # A charge that never arrived cannot be sent again: the token is not kept.
        is_lost = (way.method, moment) == ("charge", MOMENTS[0])
        assert desk.status(order) is (OrderStatus.CREATED if is_lost else way.end)
        assert desk.order(order.id).pending is None
        assert desk.payments.charges(order.id) == int(way.method != "seal" and not is_lost)
        asked = len(desk.payments.calls)
        assert ok(way.run(desk, order, key)).id == order.id
        assert (len(desk.payments.calls) == asked) is not is_lost, "the reply was not stored"

    @every_way
    def test_writes_the_history_in_the_name_of_who_began_it(
        self, background: Background, way: Way
    ) -> None:
        desk = background.desk
        order, _ = left_behind(desk, way)
        actor = background.pending(order).actor
        desk.clock.move(ABANDONED)

        background.until_nothing_is_left(background.settle)

        assert desk.history(order)[-1].actor == actor

    def test_leaves_alone_what_its_caller_may_still_be_at(self, background: Background) -> None:
        desk = background.desk
        order = desk.place()
        desk.payments.after_next(crash)
        with pytest.raises(Crash):
            desk.pay(order)
        desk.clock.move(timedelta(seconds=4.9))

        assert not background.settle()

        assert desk.order(order.id).pending is not None
        assert desk.payments.asked("resolve") == []

    def test_asks_again_later_and_later_while_the_outcome_is_unknown(
        self, background: Background
    ) -> None:
        desk = background.desk
        order = desk.place()
        desk.payments.gateway_then(*[Gateway.IS_SILENT] * 9)
        desk.payments.after_next(crash)
        with pytest.raises(Crash):
            desk.pay(order)
        desk.clock.move(ABANDONED)

        for seconds in (*[1.0] * 6, 2.0, 4.0):
            assert background.settle()
            desk.clock.move(timedelta(seconds=seconds - 0.2))
            assert not background.settle()
            desk.clock.move(timedelta(seconds=0.2))
        assert background.settle()

        assert desk.status(order) is OrderStatus.PAID
        assert desk.payments.charges(order.id) == 1

    def test_asks_for_the_health_alone_while_the_payment_service_does_not_answer(
        self, background: Background
    ) -> None:
        desk = background.desk
        orders = [left_behind(desk, way)[0] for way in [CHARGE] * 3]
        desk.clock.move(ABANDONED)
        desk.payments.reachable = False
        assert background.settle()
        asked = len(desk.payments.asked("resolve"))

        for _ in range(3):
            assert not background.settle()
            desk.clock.move(timedelta(seconds=10))
        assert len(desk.payments.asked("resolve")) == asked

        desk.payments.reachable = True
        assert background.until_nothing_is_left(background.settle) == 3
        assert {desk.status(order) for order in orders} == {OrderStatus.PAID}

    def test_does_not_count_what_it_asked_while_the_payment_service_was_away(
        self, background: Background
    ) -> None:
        desk = background.desk
        order, _ = left_behind(desk, CHARGE)
        desk.clock.move(ABANDONED)
        desk.payments.reachable = False
        background.settle()
        attempts = sa.select(payment_operations.c.attempts)
        assert desk.database.read(lambda connection: connection.scalar(attempts)) == 0

        desk.payments.reachable = True
        assert background.settle()
        assert desk.status(order) is OrderStatus.PAID

    def test_is_not_blocked_by_what_can_never_be_settled(self, background: Background) -> None:
        desk = background.desk
        poisoned, _ = left_behind(desk, CHARGE)
        pending = background.pending(poisoned)
        desk.payments.poisoned.add(pending.id)
        desk.clock.move(timedelta(seconds=1))
        others = [left_behind(desk, CHARGE)[0] for _ in range(3)]
        desk.clock.move(ABANDONED)

        assert background.until_nothing_is_left(background.settle) == 4

        assert {desk.status(order) for order in others} == {OrderStatus.PAID}
        [case] = background.needs_human()
        assert (case.what, case.id, case.order_id) == ("charge", pending.id, poisoned.id)
        assert (case.problem, case.attempts) == ("PAYMENT_NOT_SUCCEEDED", 1)

    @pytest.mark.parametrize("is_it", ["slow", "a bug"])
    def test_comes_to_what_was_not_tried_before_what_was_in_vain(
        self, background: Background, is_it: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk = background.desk
        first, _ = left_behind(desk, CHARGE)
        bad = background.pending(first).id
        desk.clock.move(timedelta(seconds=1))
        others = [left_behind(desk, CHARGE)[0] for _ in range(3)]
        desk.clock.move(ABANDONED)
        if is_it == "slow":
            desk.payments.hang.add(bad)
        else:
            monkeypatch.setattr(desk.payments, "resolve", failing_for(bad, desk.payments.resolve))

        # Longer than anybody holds or postpones the bad one: it is due again each time.
        for _ in range(4):
            with suppress(ZeroDivisionError):
                background.settle()
            desk.clock.move(timedelta(seconds=10))

        assert {desk.status(order) for order in others} == {OrderStatus.PAID}
        assert background.pending(first).id == bad

    def test_waits_with_what_has_no_answer_in_time(self, background: Background) -> None:
        desk = background.desk
        order, _ = left_behind(desk, CHARGE)
        desk.payments.hang.add(background.pending(order).id)
        desk.clock.move(ABANDONED)

        assert background.until_nothing_is_left(background.settle) == 1
        desk.payments.hang.clear()
        assert not background.settle(), "asked again at once"
        desk.clock.move(timedelta(seconds=1))
        assert background.settle()
        assert desk.status(order) is OrderStatus.PAID

    def test_ends_what_was_begun_by_a_clock_that_has_been_set_back(
        self, background: Background
    ) -> None:
        desk = background.desk
        desk.clock.move(timedelta(hours=1))
        order, _ = left_behind(desk, CHARGE)
        desk.clock.move(timedelta(hours=-1))

        assert background.settle()
        assert desk.status(order) is OrderStatus.PAID

    def test_leaves_a_payment_that_contradicts_its_order_to_a_person(
        self, background: Background
    ) -> None:
        desk = background.desk
        order, _ = left_behind(desk, CHARGE)
        pending = background.pending(order)
        desk.payments.alter(pending.id, order_id="ord_of_somebody_else")
        desk.clock.move(ABANDONED)

        background.until_nothing_is_left(background.settle)

        assert desk.status(order) is OrderStatus.CREATED
        [case] = background.needs_human()
        assert (case.id, case.problem) == (pending.id, "PAYMENT_INVARIANT_BROKEN")

    def test_of_several_processes_share_the_work(self, own_database: Database) -> None:
        desk = open_desk(own_database)
        orders = [left_behind(desk, CHARGE)[0] for _ in range(12)]
        desk.clock.move(ABANDONED)
        processes = [open_background(own_database, desk=desk) for _ in range(4)]

        with ThreadPoolExecutor(4) as threads:
            done = list(
                threads.map(lambda each: each.until_nothing_is_left(each.settle), processes)
            )

        assert {desk.status(order) for order in orders} == {OrderStatus.PAID}
        assert {desk.payments.charges(order.id) for order in orders} == {1}
        assert sum(done) == 12, "an operation was taken twice"

    def test_forgets_nothing_when_its_process_dies_between_asking_and_writing(
        self, background: Background
    ) -> None:
        desk = background.desk
        order, _ = left_behind(desk, CHARGE)
        desk.clock.move(ABANDONED)
        desk.payments.after_next(crash)
        with pytest.raises(Crash):
            background.settle()
        assert not background.settle(), "somebody else takes it while it is held"

        desk.clock.move(timedelta(seconds=4))
        assert background.settle()
        assert desk.status(order) is OrderStatus.PAID

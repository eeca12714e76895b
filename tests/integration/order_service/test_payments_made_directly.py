"""A payment that nobody tells the order service of marks its order paid all the same."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Row

from order_service.application.apply_payments import (
    ORDER_NOT_FOUND,
    PAYMENT_INVARIANT_BROKEN,
    PAYMENT_NOT_FOUND,
)
from order_service.application.ports import PaymentPage, ReceivedPayment
from order_service.domain.errors import PaymentInProgress
from order_service.domain.state_machine import OrderStatus
from order_service.storage.tables import payment_inbox
from service_kit.database import Database
from service_kit.ids import new_id
from tests.builders import new_key
from tests.integration.order_service.background import Background, open_background
from tests.integration.order_service.desk import ABANDONED, Desk, ok, open_desk, refusal
from tests.integration.order_service.scripted_payments import Crash
from tests.integration.order_service.test_operations_left_behind import crash
from tests.unit.order_service.builders import eur

NEVER_PAID: dict[str, dict[str, Any]] = {
    "customer": {"customer_id": "bob"},
    "amount": {"amount": eur(1)},
}


def cursor(desk: Desk) -> int:
    return desk.store.read(lambda work: work.inbox.sequence())


def inbox(desk: Desk) -> list[Row[Any]]:
    query = sa.select(payment_inbox).order_by(payment_inbox.c.payment_id)
    return list(desk.database.read(lambda connection: connection.execute(query).all()))


def work_off(background: Background) -> None:
    background.until_nothing_is_left(background.read)
    background.until_nothing_is_left(background.apply)


@pytest.mark.requirement("FR-238")
class TestPaymentMadeDirectly:
    def test_marks_its_order_paid_on_behalf_of_the_customer(self, background: Background) -> None:
        desk = background.desk
        order = desk.place()
        payment_id = desk.payments.paid_directly(order)

        work_off(background)

        paid = desk.order(order.id)
        assert (paid.status, paid.payment_id) == (OrderStatus.PAID, payment_id)
        entry = desk.history(order)[-1]
        assert (entry.event_type.value, entry.payment_id) == ("order_paid", payment_id)
        assert (entry.actor.role, entry.actor.id) == ("order_service", "order-service")
        assert entry.actor.on_behalf_of == order.customer_id
        assert inbox(desk)[0].applied_at is not None

    def test_is_applied_once_however_often_it_is_tried(self, background: Background) -> None:
        desk = background.desk
        order = desk.place()
        payment_id = desk.payments.paid_directly(order)
        work_off(background)
        ok(desk.mark_paid(order, payment_id))
        work_off(background)
        assert desk.events(order) == ["order_created", "order_paid"]

    def test_is_done_with_at_once_if_its_order_has_it_already(self, background: Background) -> None:
        desk = background.desk
        order = desk.place_paid()
        asked = len(desk.payments.asked("get"))

        background.until_nothing_is_left(background.read)

        assert (cursor(desk), inbox(desk)) == (1, [])
        assert not background.apply()
        assert len(desk.payments.asked("get")) == asked
        assert desk.events(order) == ["order_created", "order_paid"]

    def test_waits_while_an_operation_is_in_flight_on_its_order(
        self, background: Background
    ) -> None:
        desk = background.desk
        order = desk.place()
        desk.payments.after_next(crash)
        with pytest.raises(Crash):
            desk.pay(order, key="first")
        operation = background.pending(order)

        work_off(background)

        # The operation made the payment: it settles it, together with the reply of its key.
        assert background.pending(order) == operation
        desk.clock.move(ABANDONED)
        background.until_nothing_is_left(background.settle)
        assert desk.status(order) is OrderStatus.PAID
        assert desk.key("first")
        assert background.until_nothing_is_left(background.apply) == 1
        assert inbox(desk)[0].applied_at is not None
        assert desk.events(order) == ["order_created", "order_paid"]

    def test_that_was_in_the_way_of_an_operation_is_due_once_that_has_come_to_nothing(
        self, background: Background
    ) -> None:
        desk = background.desk
        order = desk.place()
        desk.payments.paid_directly(order)

        def meet_it_in_vain() -> None:
            background.read()
            for _ in range(5):
                assert background.apply()
                desk.clock.move(timedelta(seconds=10))

        desk.payments.before_next(meet_it_in_vain)
        with pytest.raises(PaymentInProgress):
            desk.pay(order)

        assert background.apply()
        assert desk.status(order) is OrderStatus.PAID

    def test_is_put_back_while_the_payment_service_is_away(self, background: Background) -> None:
        desk = background.desk
        order = desk.place()
        desk.payments.paid_directly(order)
        background.read()
        desk.payments.reachable = False

        for _ in range(5):
            assert not background.apply(), "it would not pause"
        assert [row.attempts for row in inbox(desk)] == [0]

        # No time goes by.
        desk.payments.reachable = True
        assert background.apply()
        assert desk.status(order) is OrderStatus.PAID

    def test_is_kept_from_being_applied_by_no_caller_that_tries_again(
        self, background: Background
    ) -> None:
        desk, key = background.desk, new_key()
        order = desk.place()
        desk.payments.paid_directly(order)
        background.read()

        for _ in range(3):
            with pytest.raises(PaymentInProgress):
                desk.pay(order, key=key)
        assert desk.operations(order) == []
        assert desk.payments.asked("charge") == []

        assert background.apply()
        refusal(desk.pay(order, key=key), "INVALID_TRANSITION")

    @pytest.mark.parametrize("wrong", NEVER_PAID.values(), ids=NEVER_PAID)
    def test_of_another_customer_or_amount_is_left_to_a_person(
        self, background: Background, wrong: dict[str, Any]
    ) -> None:
        desk = background.desk
        order = desk.place()
        payment_id = desk.payments.paid_directly(order, **wrong)

        work_off(background)

        assert desk.status(order) is OrderStatus.CREATED
        assert problems(background) == {payment_id: PAYMENT_INVARIANT_BROKEN}

    def test_of_a_cancelled_order_is_left_to_a_person(self, background: Background) -> None:
        desk = background.desk
        order = desk.place()
        ok(desk.cancel(order))
        payment_id = desk.payments.paid_directly(order)

        work_off(background)

        assert desk.status(order) is OrderStatus.CANCELLED
        assert problems(background) == {payment_id: PAYMENT_INVARIANT_BROKEN}

    def test_of_no_order_of_ours_is_left_to_a_person(self, background: Background) -> None:
        desk = background.desk
        payment_id = desk.payments.paid_directly(desk.place(), order_id=new_id("ord_"))
        work_off(background)
        assert problems(background) == {payment_id: ORDER_NOT_FOUND}

    def test_that_the_payment_service_does_not_know_is_left_to_a_person(
        self, background: Background
    ) -> None:
        desk = background.desk
        ghost = ReceivedPayment(payment_id=new_id("pay_"), order_id=desk.place().id)
        page = PaymentPage(last_sequence=1, payments=(ghost,))
        desk.store.transact(lambda work: work.inbox.receive(page, after=0, now=desk.clock.now()))

        background.until_nothing_is_left(background.apply)

        assert problems(background) == {ghost.payment_id: PAYMENT_NOT_FOUND}

    def test_is_tried_again_when_a_payment_service_that_is_well_did_not_answer(
        self, background: Background
    ) -> None:
        desk = background.desk
        order = desk.place()
        payment_id = desk.payments.paid_directly(order)
        background.read()
        desk.payments.hang.add(payment_id)
        assert background.apply()
        desk.payments.hang.clear()
        assert not background.apply(), "it waits for its time"

        desk.clock.move(timedelta(seconds=1))
        assert background.apply()
        assert desk.status(order) is OrderStatus.PAID

    def test_that_cannot_be_applied_is_in_nobodys_way(self, background: Background) -> None:
        desk = background.desk
        desk.payments.paid_directly(desk.place(), amount=eur(1))
        orders = [desk.place() for _ in range(3)]
        for order in orders:
            desk.payments.paid_directly(order)
        work_off(background)
        assert {desk.status(order) for order in orders} == {OrderStatus.PAID}


@pytest.mark.requirement("FR-238")
class TestReadPayments:
    def test_reads_on_from_where_another_process_stopped(self, own_database: Database) -> None:
        desk = open_desk(own_database)
        first = desk.place()
        desk.payments.paid_directly(first)
        open_background(own_database, desk=desk).read()
        second = desk.place()
        desk.payments.paid_directly(second)

        work_off(open_background(own_database, desk=desk))

        assert cursor(desk) == 2
        assert {desk.status(order) for order in (first, second)} == {OrderStatus.PAID}

    def test_reads_more_than_one_page(self, background: Background) -> None:
        desk = background.desk
        for _ in range(101):
            desk.payments.paid_directly(desk.place())
        assert background.until_nothing_is_left(background.read) == 1
        assert (cursor(desk), len(inbox(desk))) == (101, 101)

    def test_reads_a_moments_payments_together(self, background: Background) -> None:
        desk = background.desk
        for _ in range(3):
            desk.payments.paid_directly(desk.place())
        assert not background.read(), "it would not pause, and read the next one alone"
        assert (cursor(desk), len(inbox(desk))) == (3, 3)

    def test_keeps_the_cursor_where_it_is_while_nobody_answers(
        self, background: Background
    ) -> None:
        desk = background.desk
        desk.payments.paid_directly(desk.place())
        desk.payments.reachable = False
        assert not background.read()
        assert cursor(desk) == 0

    def test_of_several_processes_receives_everything_once(self, own_database: Database) -> None:
        desk = open_desk(own_database)
        orders = [desk.place() for _ in range(20)]
        for order in orders:
            desk.payments.paid_directly(order)
        processes = [open_background(own_database, desk=desk) for _ in range(4)]

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work_off, processes))

        assert [desk.events(order) for order in orders] == [["order_created", "order_paid"]] * 20

    def test_a_late_page_changes_nothing(self, background: Background) -> None:
        desk = background.desk
        desk.payments.paid_directly(desk.place())
        background.read()
        stale = PaymentPage(last_sequence=7, payments=(ReceivedPayment(new_id("pay_"), "ord_x"),))

        desk.store.transact(lambda work: work.inbox.receive(stale, after=0, now=desk.clock.now()))

        assert (cursor(desk), len(inbox(desk))) == (1, 1)

    def test_keeps_what_it_read_together_with_how_far_it_read(
        self, background: Background, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk = background.desk
        desk.payments.paid_directly(desk.place())
        monkeypatch.setattr(
            "order_service.storage.inbox.StoredInbox._unpaid",
            lambda *_: crash(),
        )
        with pytest.raises(Crash):
            background.read()
        assert (cursor(desk), inbox(desk)) == (0, [])


def problems(background: Background) -> dict[str, str]:
    return {case.id: case.problem for case in background.needs_human()}

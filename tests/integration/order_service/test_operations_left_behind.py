"""Operations whose caller died or got no answer: continued, or settled by whom they are in the way.

Each test begins with an operation in flight and ends with one outcome, whoever wrote it.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Event

import pytest
import sqlalchemy as sa

from order_service.application.ports import Succeeded, Work
from order_service.domain.errors import (
    PaymentInProgress,
    PaymentInvariantBroken,
    PaymentNotFound,
    PaymentOutcomeUnknown,
    RefundInProgress,
)
from order_service.domain.order import Order
from order_service.domain.payment_operation import OperationStatus, PaymentOperation
from order_service.domain.state_machine import OrderStatus
from order_service.storage.tables import orders
from service_kit import call
from service_kit.database import Database
from service_kit.errors import ConcurrentUpdate, DeadlineTooShort, RequestInProgress
from service_kit.idempotency.record import Reply
from tests.builders import new_key
from tests.integration.order_service.desk import (
    ABANDONED,
    LEASE_OVER,
    Desk,
    ok,
    open_desk,
    refusal,
)
from tests.integration.order_service.scripted_payments import Crash, Gateway
from tests.unit.order_service.builders import ALICE, SHOP, payment_of


def crash() -> None:
    raise Crash


@dataclass(frozen=True)
class Way:
    """One kind of operation: an order it can begin on, the call, and where that ends."""

    prepare: Callable[[Desk], Order]
    run: Callable[[Desk, Order, str], Reply]
    method: str
    end: OrderStatus


WAYS = {
    "charge": Way(
        Desk.place, lambda desk, order, key: desk.pay(order, key=key), "charge", OrderStatus.PAID
    ),
    "cancel": Way(
        Desk.place,
        lambda desk, order, key: desk.cancel(order, key=key),
        "seal",
        OrderStatus.CANCELLED,
    ),
    "refund": Way(
        Desk.place_paid,
        lambda desk, order, key: desk.refund(order, key=key),
        "refund",
        OrderStatus.REFUNDED,
    ),
}

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def left_behind(desk: Desk, way: Way) -> tuple[Order, str, PaymentOperation]:
    """Begin an operation and let its caller die before the payment service hears of it."""
    order, key = way.prepare(desk), new_key()
    desk.payments.before_next(crash)
    with pytest.raises(Crash):
        way.run(desk, order, key)
    pending = desk.order(order.id).pending
    assert pending is not None
    return order, key, pending


@pytest.mark.requirement("FR-208")
class TestCallThatDied:
    @every_way
    @pytest.mark.parametrize("moment", ["before the remote call", "after the remote call"])
    def test_is_continued_under_its_operations_id_once_the_lease_is_over(
        self, desk: Desk, way: Way, moment: str
    ) -> None:
        order, key = way.prepare(desk), new_key()
        dies = desk.payments.before_next if "before" in moment else desk.payments.after_next
        dies(crash)
        with pytest.raises(Crash):
            way.run(desk, order, key)
        pending = desk.order(order.id).pending
        assert pending is not None

        desk.clock.move(timedelta(seconds=10))
        with pytest.raises(RequestInProgress) as refused:
            way.run(desk, order, key)
        assert refused.value.method == pending.method
        desk.clock.move(timedelta(seconds=5.1))
        ok(way.run(desk, order, key))

        assert desk.status(order) is way.end
        assert desk.payments.asked(way.method)[-2:] == [pending.id] * 2
        assert desk.operations(order)[-1].id == pending.id
        assert desk.payments.charges(order.id) == (0 if way.end is OrderStatus.CANCELLED else 1)
        if way.end is OrderStatus.REFUNDED:
            assert desk.payments.given_back(order.payment_id) == 4000

    @every_way
    def test_is_continued_at_once_after_an_answer_that_was_unknown(
        self, desk: Desk, way: Way
    ) -> None:
        order, key = way.prepare(desk), new_key()
        desk.payments.lose_next_answer()
        with pytest.raises(PaymentOutcomeUnknown):
            way.run(desk, order, key)

        ok(way.run(desk, order, key))
        assert desk.status(order) is way.end

    def test_has_its_lease_renewed_by_whoever_continues_it(self, desk: Desk) -> None:
        order, key, _ = left_behind(desk, WAYS["charge"])
        desk.clock.move(LEASE_OVER)
        desk.payments.before_next(crash)
        with pytest.raises(Crash):
            desk.pay(order, key=key)

        with pytest.raises(RequestInProgress):
            desk.pay(order, key=key)

    @pytest.mark.requirement("FR-225")
    def test_is_continued_whatever_the_etag_is_now(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.lose_next_answer()
        with pytest.raises(PaymentOutcomeUnknown):
            desk.pay(order, key=key, etag=order.etag)
        with desk.database.engine.begin() as connection:
            connection.execute(sa.update(orders).where(orders.c.id == order.id).values(version=9))

        ok(desk.pay(order, key=key, etag=order.etag))


@dataclass(frozen=True)
class Meeting:
    """A call that finds an operation in its way, and what it is refused with while it waits."""

    way: str
    call: Callable[[Desk, Order], Reply]
    refused: type[Exception]


MEETINGS = {
    "PayOrder meets a charge": Meeting("charge", Desk.pay, PaymentInProgress),
    "PayOrder meets a cancellation": Meeting("cancel", Desk.pay, PaymentInProgress),
    "CancelOrder meets a charge": Meeting("charge", Desk.cancel, PaymentInProgress),
    "CancelOrder meets a cancellation": Meeting("cancel", Desk.cancel, PaymentInProgress),
    "MarkOrderPaid meets a charge": Meeting(
        "charge", lambda desk, order: desk.mark_paid(order, "pay_1"), PaymentInProgress
    ),
    "MarkOrderPaid meets a cancellation": Meeting(
        "cancel", lambda desk, order: desk.mark_paid(order, "pay_1"), PaymentInProgress
    ),
    "RefundOrder meets a refund": Meeting("refund", Desk.refund, RefundInProgress),
    "FulfillOrder meets a refund": Meeting("refund", Desk.fulfill, RefundInProgress),
}
every_meeting = pytest.mark.parametrize("meeting", MEETINGS.values(), ids=MEETINGS)


@pytest.mark.requirement("FR-216")
class TestAnotherCall:
    @every_meeting
    def test_waits_for_an_operation_that_has_just_begun(self, desk: Desk, meeting: Meeting) -> None:
        order, _, pending = left_behind(desk, WAYS[meeting.way])
        desk.clock.move(timedelta(seconds=2))
        calls = len(desk.payments.calls)

        with pytest.raises(meeting.refused):
            meeting.call(desk, order)
        assert desk.order(order.id).pending == pending
        assert len(desk.payments.calls) == calls

    @every_meeting
    def test_waits_for_one_that_nobody_can_say_anything_about(
        self, desk: Desk, meeting: Meeting
    ) -> None:
        order, _, pending = left_behind(desk, WAYS[meeting.way])
        desk.clock.move(ABANDONED)
        desk.payments.lose_next_answer()

        with pytest.raises(meeting.refused):
            meeting.call(desk, order)
        assert desk.order(order.id).pending == pending

    @every_meeting
    def test_settles_one_that_was_left_behind(self, desk: Desk, meeting: Meeting) -> None:
        order, _, pending = left_behind(desk, WAYS[meeting.way])
        desk.clock.move(ABANDONED)
        # The payment that MarkOrderPaid names does not exist.
        with suppress(PaymentNotFound):
            meeting.call(desk, order)

        row = next(row for row in desk.operations(order) if row.id == pending.id)
        assert row.status in ("succeeded", "voided")
        assert row.ended_at is not None

    def test_charges_if_the_first_charge_had_not_arrived_and_never_will(self, desk: Desk) -> None:
        order, key, pending = left_behind(desk, WAYS["charge"])
        desk.clock.move(ABANDONED)

        ok(desk.pay(order))
        assert desk.payments.asked("resolve") == [pending.id]
        assert desk.payments.charges(order.id) == 1
        # The first caller comes back under its key: it is free and finds the order paid.
        refusal(desk.pay(order, key=key), "INVALID_TRANSITION")
        assert desk.payments.charges(order.id) == 1

    def test_finds_the_order_paid_if_the_first_charge_had_succeeded(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.after_next(crash)
        with pytest.raises(Crash):
            desk.pay(order, key=key, by=ALICE)
        desk.clock.move(ABANDONED)

        refusal(desk.pay(order, by=SHOP), "INVALID_TRANSITION")
        now = desk.order(order.id)
        assert now.status is OrderStatus.PAID
        paid, refused = desk.history(order)[1:]
        assert (paid.event_type.value, paid.actor) == ("order_paid", ALICE)
        assert (refused.event_type.value, refused.actor) == ("invalid_transition_attempted", SHOP)

        calls = len(desk.payments.calls)
        reply = desk.pay(order, key=key)
        assert ok(reply).payment_transaction_id == now.payment_id
        assert len(desk.payments.calls) == calls
        assert desk.pay(order, key=key) == reply

    def test_that_cancels_finds_the_order_paid(self, desk: Desk) -> None:
        order = desk.place()
        desk.payments.after_next(crash)
        with pytest.raises(Crash):
            desk.pay(order)
        desk.clock.move(ABANDONED)

        refused = refusal(desk.cancel(order), "INVALID_TRANSITION")
        assert refused.metadata["current_status"] == "paid"
        assert desk.payments.asked("seal") == []

    def test_that_marks_paid_by_that_very_payment_is_ok(self, desk: Desk) -> None:
        order = desk.place()
        desk.payments.after_next(crash)
        with pytest.raises(Crash):
            desk.pay(order)
        desk.clock.move(ABANDONED)
        payment_id = desk.payments.payment_under(desk.operations(order)[0].id)

        ok(desk.mark_paid(order, payment_id))
        assert desk.events(order) == ["order_created", "order_paid"]

    def test_that_delivers_waits_for_a_refund_and_then_finds_all_given_back(
        self, desk: Desk
    ) -> None:
        order, key, _ = left_behind(desk, WAYS["refund"])
        desk.clock.move(ABANDONED)

        refused = refusal(desk.fulfill(order), "INVALID_TRANSITION")
        assert refused.metadata["current_status"] == "refunded"
        assert ok(desk.refund(order, key=key)).refunded_amount.minor_units == 4000
        assert desk.payments.given_back(order.payment_id) == 4000

    def test_that_delivers_does_so_if_a_part_was_given_back(self, desk: Desk) -> None:
        order = desk.place_paid(4000)
        desk.payments.before_next(crash)
        with pytest.raises(Crash):
            desk.refund(order, 1500)
        desk.clock.move(ABANDONED)

        ok(desk.fulfill(order))
        now = desk.order(order.id)
        assert (now.status, now.refunded.minor_units) == (OrderStatus.FULFILLED, 1500)

    def test_stores_the_decline_for_the_key_it_belongs_to(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.gateway_then(Gateway.IS_SILENT, Gateway.DECLINES)
        with pytest.raises(PaymentOutcomeUnknown):
            desk.pay(order, key=key)
        desk.clock.move(ABANDONED)

        ok(desk.pay(order))
        refusal(desk.pay(order, key=key), "PAYMENT_DECLINED")
        assert desk.events(order) == ["order_created", "payment_failed", "order_paid"]

    def test_finds_that_somebody_else_has_settled_it_meanwhile(self, desk: Desk) -> None:
        order, key, _ = left_behind(desk, WAYS["charge"])
        desk.clock.move(LEASE_OVER)
        desk.payments.before_next(lambda: ok(desk.pay(order, key=key)))

        refusal(desk.pay(order), "INVALID_TRANSITION")
        assert desk.events(order).count("order_paid") == 1

    def test_is_told_of_a_payment_in_progress_if_that_contradicts_its_order(
        self, desk: Desk
    ) -> None:
        order, _, pending = left_behind(desk, WAYS["charge"])
        desk.payments.charge(pending, order, payment_token="tok_visa")
        desk.payments.alter(pending.id, order_id="ord_of_somebody_else")
        desk.clock.move(ABANDONED)

        with pytest.raises(PaymentInProgress):
            desk.pay(order)
        assert desk.status(order) is OrderStatus.CREATED

    @pytest.mark.requirement("FR-234")
    def test_starts_nothing_if_settling_took_all_its_time(self, desk: Desk) -> None:
        order, _, _ = left_behind(desk, WAYS["charge"])
        desk.clock.move(ABANDONED)

        def take_long() -> None:
            call.current().deadline = time.monotonic() + 0.9

        desk.payments.before_next(take_long)
        with pytest.raises(DeadlineTooShort):
            desk.pay(order)
        assert [o.status for o in desk.operations(order)] == ["voided"]


class TestSettledTwice:
    @every_way
    def test_changes_nothing_and_gives_the_same_reply(self, desk: Desk, way: Way) -> None:
        order, key = way.prepare(desk), new_key()
        desk.payments.after_next(lambda: _settled_by_another(desk, order))
        reply = way.run(desk, order, key)
        ok(reply)

        assert desk.status(order) is way.end
        assert way.run(desk, order, key).body == reply.body
        assert len(set(desk.events(order))) == len(desk.events(order))

    def test_after_a_void_ends_in_the_void(self, desk: Desk) -> None:
        order, key, pending = left_behind(desk, WAYS["charge"])
        desk.clock.move(LEASE_OVER)

        def resolve_first() -> None:
            assert desk.settlement.settle(pending, desk.payments.resolve(pending)) is None

        desk.payments.before_next(resolve_first)
        with pytest.raises(PaymentInProgress):
            desk.pay(order, key=key)
        assert [o.status for o in desk.operations(order)] == ["voided"]
        ok(desk.pay(order, key=key))

    def test_of_an_order_that_its_payment_has_paid_only_closes_the_operation(
        self, desk: Desk
    ) -> None:
        order, key, pending = left_behind(desk, WAYS["charge"])
        payment = payment_of(order)
        _pay_behind_its_back(desk, order, payment.id)

        reply = desk.settlement.settle(pending, Succeeded(payment))
        assert reply is not None
        assert ok(reply).payment_transaction_id == payment.id
        assert desk.events(order) == ["order_created"]
        assert desk.pay(order, key=key).body == reply.body

    def test_of_a_cancellation_whose_payment_has_paid_refuses_it(self, desk: Desk) -> None:
        order, _, pending = left_behind(desk, WAYS["cancel"])
        payment = payment_of(order)
        _pay_behind_its_back(desk, order, payment.id)

        reply = desk.settlement.settle(pending, Succeeded(payment))
        assert reply is not None
        refusal(reply, "INVALID_TRANSITION")
        assert desk.operations(order)[0].status == OperationStatus.FAILED.value

    def test_never_pays_for_an_order_that_is_cancelled(self, desk: Desk) -> None:
        order, _, pending = left_behind(desk, WAYS["charge"])
        with desk.database.engine.begin() as connection:
            given_up = sa.update(orders).where(orders.c.id == order.id).values(status="cancelled")
            connection.execute(given_up)

        with pytest.raises(PaymentInvariantBroken):
            desk.settlement.settle(pending, Succeeded(payment_of(order)))
        assert desk.status(order) is OrderStatus.CANCELLED


@pytest.mark.requirement("FR-235")
class TestDatabaseIsBusy:
    """Every lock is held by somebody else for longer than this service waits."""

    def test_once_the_intent_was_committed_is_an_unknown_outcome(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order, key, change = desk.place(), new_key(), desk.store.change

        def lose_the_answer(work: Callable[[Work], object]) -> object:
            change(work)
            raise ConcurrentUpdate(attempts=5)

        with monkeypatch.context() as patched:
            patched.setattr(desk.store, "change", lose_the_answer)
            with pytest.raises(PaymentOutcomeUnknown):
                desk.pay(order, key=key)
        desk.clock.move(LEASE_OVER)
        ok(desk.pay(order, key=key))
        assert desk.payments.charges(order.id) == 1

    @pytest.fixture
    def hasty(self, database_url: str) -> Iterator[Desk]:
        """Use cases that wait for locks for a moment only."""
        database = Database(database_url, lock_wait_seconds=0.01)
        yield open_desk(database)
        database.close()

    def test_before_the_intent_nothing_is_changed(self, hasty: Desk, desk: Desk) -> None:
        order, key = desk.place(), new_key()

        with held(desk, order), pytest.raises(ConcurrentUpdate):
            hasty.pay(order, key=key)
        assert (desk.key(key), desk.operations(order), hasty.payments.calls) == (None, [], [])

    @every_way
    @pytest.mark.parametrize("answer", ["known", "unknown"])
    def test_after_the_intent_the_outcome_is_unknown_and_found_later(
        self, hasty: Desk, desk: Desk, way: Way, answer: str
    ) -> None:
        hasty = open_desk(hasty.database, payments=desk.payments, clock=desk.clock)
        order, key = way.prepare(desk), new_key()
        blocked = held(desk, order, key)
        desk.payments.before_next(blocked.__enter__)
        if answer == "unknown":
            desk.payments.lose_next_answer()

        with pytest.raises(PaymentOutcomeUnknown):
            way.run(hasty, order, key)
        blocked.__exit__(None, None, None)
        assert desk.order(order.id).pending is not None
        desk.clock.move(LEASE_OVER)
        ok(way.run(hasty, order, key))
        assert desk.status(order) is way.end

    def test_or_gone_after_the_intent_the_outcome_is_unknown_too(
        self, database_url: str, desk: Desk
    ) -> None:
        database = Database(database_url, pool_size=1, pool_wait_seconds=0.01)
        narrow = open_desk(database, payments=desk.payments, clock=desk.clock)
        order, key = desk.place(), new_key()
        taken = occupied(database)
        desk.payments.before_next(taken.__enter__)

        with pytest.raises(PaymentOutcomeUnknown):
            narrow.pay(order, key=key)
        taken.__exit__(None, None, None)
        desk.clock.move(LEASE_OVER)
        ok(narrow.pay(order, key=key))
        assert desk.payments.charges(order.id) == 1
        database.close()

    def test_a_call_in_the_way_waits(self, hasty: Desk, desk: Desk) -> None:
        hasty = open_desk(hasty.database, payments=desk.payments, clock=desk.clock)
        order, key, _ = left_behind(desk, WAYS["charge"])
        desk.clock.move(ABANDONED)
        blocked = held(desk, order, key)
        desk.payments.before_next(blocked.__enter__)

        with pytest.raises(PaymentInProgress):
            hasty.pay(order)
        blocked.__exit__(None, None, None)


@contextmanager
def held(desk: Desk, order: Order, key: str = "") -> Iterator[None]:
    """Hold the locks of the order and of the key in a transaction of somebody else's."""
    connection = desk.database.engine.connect()
    try:
        connection.begin()
        connection.execute(sa.select(orders).where(orders.c.id == order.id).with_for_update())
        connection.execute(
            sa.text("UPDATE idempotency_keys SET used_at = used_at WHERE idempotency_key = :key"),
            {"key": key},
        )
        yield
    finally:
        connection.close()


@contextmanager
def occupied(database: Database) -> Iterator[None]:
    """Have the only connection of a database in use by another thread."""
    is_taken, let_go = Event(), Event()

    def take(_: sa.Connection) -> None:
        is_taken.set()
        assert let_go.wait(10)

    with ThreadPoolExecutor(1) as thread:
        used = thread.submit(database.read, take)
        try:
            assert is_taken.wait(10)
            yield
        finally:
            let_go.set()
        used.result(10)


def _settled_by_another(desk: Desk, order: Order) -> None:
    """Have the operation in flight settled, by its own answer, before its caller does."""
    desk.clock.move(ABANDONED)
    with call.serving(call.current()):
        assert desk.settlement.settle_abandoned(order.id)
    assert desk.order(order.id).pending is None
    assert desk.settlement.settle_abandoned(order.id), "there is nothing left to settle"


def _pay_behind_its_back(desk: Desk, order: Order, payment_id: str) -> None:
    values = {"status": "paid", "payment_id": payment_id, "version": 2}
    with desk.database.engine.begin() as connection:
        connection.execute(sa.update(orders).where(orders.c.id == order.id).values(values))

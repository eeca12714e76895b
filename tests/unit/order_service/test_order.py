"""What may happen to an order, and what is written down about it."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from order_service.domain.audit import AuditEntry, EventType, Outcome
from order_service.domain.errors import (
    EtagMismatch,
    InvalidTransition,
    PaymentDeclined,
    PaymentInProgress,
    RefundDeclined,
    RefundInProgress,
)
from order_service.domain.order import Change, Order, OrderItem
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import TRANSITIONS, OrderAction, OrderStatus
from tests.unit.order_service.builders import (
    ALICE,
    AT,
    LATER,
    OLGA,
    TRACE_ID,
    eur,
    items_of,
    new_operation,
    new_order,
)

CHANGES: dict[OrderAction, tuple[EventType, Callable[[Order], Change]]] = {
    OrderAction.PAY: (
        EventType.ORDER_PAID,
        lambda order: order.pay(payment_id="pay_1", by=OLGA, at=LATER),
    ),
    OrderAction.CANCEL: (
        EventType.ORDER_CANCELLED,
        lambda order: order.cancel(by=OLGA, at=LATER),
    ),
    OrderAction.FULFILL: (
        EventType.ORDER_FULFILLED,
        lambda order: order.fulfill(by=OLGA, at=LATER),
    ),
    OrderAction.REFUND: (
        EventType.ORDER_REFUNDED,
        lambda order: order.refund(order.refundable, by=OLGA, at=LATER),
    ),
    OrderAction.ARCHIVE: (
        EventType.ORDER_ARCHIVED,
        lambda order: order.archive(by=OLGA, at=LATER),
    ),
}
NO_ARROW = [cell for cell in product(OrderStatus, OrderAction) if cell not in TRANSITIONS]


class TestPlacing:
    @pytest.mark.requirement("FR-201")
    def test_computes_every_line_and_the_total(self) -> None:
        items = (
            OrderItem("MUG-1", "Mug", 3, eur(1250)),
            OrderItem("GIFT", "Sample", 7, eur(0)),
            OrderItem("TEE-M", "T-shirt, M", 1, eur(1999)),
        )
        order, _ = Order.place(order_id="ord_1", customer_id="alice", items=items, by=ALICE, at=AT)

        assert [item.line_total for item in order.items] == [eur(3750), eur(0), eur(1999)]
        assert order.total == eur(5749)
        assert (order.refunded, order.refundable) == (eur(0), eur(5749))

    def test_begins_as_created_with_its_audit_entry(self) -> None:
        order, entry = Order.place(
            order_id="ord_1", customer_id="alice", items=items_of(4000), by=ALICE, at=AT
        )

        assert (order.status, order.payment_id, order.pending) == (OrderStatus.CREATED, "", None)
        assert (order.created_at, order.updated_at) == (AT, AT)
        assert entry == AuditEntry(
            order_id="ord_1",
            actor=ALICE,
            at=AT,
            event_type=EventType.ORDER_CREATED,
            from_status="",
            to_status="created",
            outcome=Outcome.APPLIED,
        )


class TestChangeOfStatus:
    @pytest.mark.parametrize(("source", "action"), list(TRANSITIONS))
    def test_returns_the_order_with_the_audit_entry_that_tells_of_it(
        self, source: OrderStatus, action: OrderAction
    ) -> None:
        event_type, change = CHANGES[action]
        before = new_order(source)
        order, entry = change(before)
        target = TRANSITIONS[source, action]

        assert (order.status, order.updated_at) == (target, LATER)
        assert order.version == before.version + 1
        assert order.etag != before.etag
        assert entry == AuditEntry(
            order_id=before.id,
            actor=OLGA,
            at=LATER,
            event_type=event_type,
            from_status=source.value,
            to_status=target.value,
            outcome=Outcome.APPLIED,
            payment_id=order.payment_id,
        )

    @pytest.mark.requirement("FR-204")
    @pytest.mark.parametrize(("source", "action"), NO_ARROW)
    def test_goes_along_an_arrow_only(self, source: OrderStatus, action: OrderAction) -> None:
        order = new_order(source)
        with pytest.raises(InvalidTransition):
            order.require(action)
        with pytest.raises(InvalidTransition) as refused:
            CHANGES[action][1](order)

        assert (refused.value.status, refused.value.action) == (source.value, action.value)

    def test_to_paid_remembers_the_payment(self) -> None:
        order, entry = new_order().pay(payment_id="pay_1", by=ALICE, at=LATER)

        assert (order.payment_id, entry.payment_id) == ("pay_1", "pay_1")


@pytest.mark.requirement("FR-222")
class TestRefund:
    def test_of_a_part_leaves_the_order_paid_with_less_to_give_back(self) -> None:
        before = new_order(OrderStatus.PAID)
        order, entry = before.refund(eur(1500), by=OLGA, at=LATER)

        assert (order.status, order.refunded, order.refundable) == (
            OrderStatus.PAID,
            eur(1500),
            eur(2500),
        )
        assert (order.etag, order.updated_at) == (before.etag, LATER)
        assert entry.event_type is EventType.ORDER_PARTIALLY_REFUNDED
        assert (entry.from_status, entry.to_status) == ("paid", "paid")

    def test_of_the_last_part_refunds_the_order(self) -> None:
        order, _ = new_order(OrderStatus.PAID).refund(eur(1500), by=OLGA, at=LATER)
        order, entry = order.refund(eur(2500), by=OLGA, at=LATER)

        assert (order.status, order.refundable) == (OrderStatus.REFUNDED, eur(0))
        assert entry.event_type is EventType.ORDER_REFUNDED

    @pytest.mark.parametrize("status", [s for s in OrderStatus if s is not OrderStatus.PAID])
    def test_of_a_part_needs_a_paid_order(self, status: OrderStatus) -> None:
        with pytest.raises(InvalidTransition):
            replace(new_order(status), refunded=eur(0)).refund(eur(1), by=OLGA, at=LATER)

    def test_in_another_currency_is_a_mistake(self) -> None:
        order = new_order(OrderStatus.PAID, total=eur(4000))
        with pytest.raises(ValueError, match="is not EUR"):
            order.refund(replace(eur(1), currency_code="USD"), by=OLGA, at=LATER)


@pytest.mark.requirement("FR-225")
class TestEtag:
    def test_changes_with_the_status_only(self) -> None:
        order = new_order(OrderStatus.PAID)
        begun = order.begun(new_operation(OperationKind.REFUND, order=order))
        partly, _ = order.refund(eur(1), by=OLGA, at=LATER)

        assert begun.etag == begun.settled(at=LATER).etag == partly.etag == order.etag
        assert order.fulfill(by=OLGA, at=LATER)[0].etag != order.etag

    def test_of_another_status_is_refused(self) -> None:
        seen = new_order().etag
        order, _ = new_order().cancel(by=ALICE, at=LATER)

        with pytest.raises(EtagMismatch) as refused:
            order.require_etag(seen)
        assert (refused.value.order_id, refused.value.current_etag) == (order.id, order.etag)

    def test_is_not_asked_for(self) -> None:
        order = new_order()

        order.require_etag("")
        order.require_etag(order.etag)


class TestOperationInFlight:
    @pytest.mark.parametrize("kind", [OperationKind.CHARGE, OperationKind.CANCEL])
    def test_of_money_coming_in_stands_in_the_way(self, kind: OperationKind) -> None:
        order = new_order()
        operation = new_operation(kind, order=order, started_at=LATER)
        order = order.begun(operation)

        assert (order.pending, order.updated_at) == (operation, LATER)
        with pytest.raises(PaymentInProgress) as refused:
            order.require_nothing_pending()
        assert (refused.value.order_id, refused.value.operation) == (order.id, kind.value)

    def test_of_money_going_out_stands_in_the_way(self) -> None:
        order = new_order(OrderStatus.PAID)
        order = order.begun(new_operation(OperationKind.REFUND, order=order))

        with pytest.raises(RefundInProgress) as refused:
            order.require_nothing_pending()
        assert refused.value.order_id == order.id

    def test_is_gone_once_settled(self) -> None:
        order = new_order().begun(new_operation()).settled(at=LATER)

        order.require_nothing_pending()
        assert (order.pending, order.updated_at) == (None, LATER)


class TestRefusal:
    def test_is_written_down_with_its_reason_and_without_a_change(self) -> None:
        order = new_order(OrderStatus.PAID)
        entry = order.refused(
            RefundDeclined(order_id=order.id, decline_code="refund_failed"), by=OLGA, at=LATER
        )

        assert entry == AuditEntry(
            order_id=order.id,
            actor=OLGA,
            at=LATER,
            event_type=EventType.REFUND_FAILED,
            from_status="paid",
            to_status="paid",
            outcome=Outcome.REFUSED,
            reason="REFUND_DECLINED",
            payment_id=order.payment_id,
        )
        assert entry.actor.trace_id == TRACE_ID

    def test_names_the_payment_it_is_about(self) -> None:
        order = new_order()
        declined = PaymentDeclined(order_id=order.id, payment_id="pay_9", decline_code="lost_card")

        assert order.refused(declined, by=ALICE, at=LATER).payment_id == "pay_9"

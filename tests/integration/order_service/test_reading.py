"""Reading orders and their history."""

import pytest

from order_service.application.list_order_audit_entries import ListOrderAuditEntries
from order_service.application.list_orders import ListOrders
from order_service.application.ports import OrderFilter
from order_service.domain.errors import OrderNotFound, PaymentOutcomeUnknown
from order_service.domain.order import Order
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderStatus
from tests.builders import new_key
from tests.integration.order_service.desk import Desk, ok
from tests.unit.order_service.builders import ALICE, OLGA, SHOP


@pytest.mark.requirement("FR-226")
class TestGetOrder:
    def test_shows_an_order_to_its_customer_and_to_those_who_serve(self, desk: Desk) -> None:
        order = desk.place()

        for actor in (ALICE, SHOP, OLGA):
            assert desk.use_cases.get_order(order.id, actor) == order

    def test_hides_somebody_elses_order_as_if_there_were_none(self, desk: Desk) -> None:
        order = desk.place(by=SHOP, customer_id="bob")

        for order_id in (order.id, "ord_none"):
            with pytest.raises(OrderNotFound) as refused:
                desk.use_cases.get_order(order_id, ALICE)
            assert refused.value.order_id == order_id


def _listed(desk: Desk, customer: str, *, size: int = 2, before: str = "") -> ListOrders.Page:
    query = ListOrders.Query(OrderFilter(customer_id=customer), before=before, page_size=size)
    return desk.use_cases.list_orders(query)


def _placed(desk: Desk, customer: str, count: int) -> list[Order]:
    return [desk.place(by=SHOP, customer_id=customer) for _ in range(count)]


@pytest.mark.requirement("FR-227")
class TestListOrders:
    def test_is_newest_first_page_after_page(self, desk: Desk) -> None:
        customer = new_key()
        placed = _placed(desk, customer, 5)
        pages = [_listed(desk, customer)]
        while pages[-1].next_before:
            pages.append(_listed(desk, customer, before=pages[-1].next_before))

        assert [len(page.orders) for page in pages] == [2, 2, 1]
        assert [order for page in pages for order in page.orders] == placed[::-1]

    def test_ends_exactly_where_the_orders_do(self, desk: Desk) -> None:
        customer = new_key()
        assert _listed(desk, customer) == ListOrders.Page([], "")
        _placed(desk, customer, 2)

        assert _listed(desk, customer).next_before == ""

    def test_shows_no_order_twice_and_leaves_none_out_while_others_are_placed(
        self, desk: Desk
    ) -> None:
        customer = new_key()
        placed = _placed(desk, customer, 4)
        first = _listed(desk, customer)
        _placed(desk, customer, 3)
        second = _listed(desk, customer, before=first.next_before)

        assert [*first.orders, *second.orders] == placed[::-1]

    def test_shows_what_is_under_way(self, desk: Desk) -> None:
        customer = new_key()
        [order] = _placed(desk, customer, 1)
        desk.payments.lose_next_answer()
        with pytest.raises(PaymentOutcomeUnknown):
            desk.cancel(order, by=SHOP)

        [shown] = _listed(desk, customer).orders
        assert shown.pending is not None
        assert shown.pending.kind is OperationKind.CANCEL

    @pytest.mark.parametrize("status", [OrderStatus.CREATED, OrderStatus.CANCELLED])
    def test_filters_by_status(self, desk: Desk, status: OrderStatus) -> None:
        customer = new_key()
        created, cancelled = _placed(desk, customer, 2)
        ok(desk.cancel(cancelled, by=SHOP))
        wanted = OrderFilter(customer_id=customer, status=status)
        page = desk.use_cases.list_orders(ListOrders.Query(wanted, before="", page_size=20))

        expected = {OrderStatus.CREATED: created.id, OrderStatus.CANCELLED: cancelled.id}
        assert [order.id for order in page.orders] == [expected[status]]

    def test_of_everybody_has_the_newest_first(self, desk: Desk) -> None:
        placed = [desk.place(by=SHOP, customer_id=new_key()) for _ in range(3)]

        assert [order.id for order in _listed(desk, "", size=3).orders] == [
            order.id for order in placed[::-1]
        ]


@pytest.mark.requirement("FR-228", "FR-229")
class TestListOrderAuditEntries:
    def test_of_one_order_ascend(self, desk: Desk) -> None:
        order = desk.place_paid()
        desk.place()
        ok(desk.fulfill(order))
        read = desk.use_cases.list_order_audit_entries
        entries = read(ListOrderAuditEntries.Query(after=0, order_id=order.id, page_size=20))

        assert [e.entry.to_status for e in entries] == ["created", "paid", "fulfilled"]
        sequences = [e.sequence for e in entries]
        assert sequences == sorted(sequences)
        later = ListOrderAuditEntries.Query(after=sequences[0], order_id=order.id, page_size=1)
        assert read(later) == entries[1:2]

    def test_of_all_orders_are_one_sequence(self, desk: Desk) -> None:
        read = desk.use_cases.list_order_audit_entries
        first, second = desk.place(), desk.place()
        start = desk.store.audit_entries(after=0, order_id=first.id, limit=1)[0].sequence
        ok(desk.cancel(first))
        entries = read(ListOrderAuditEntries.Query(after=start - 1, order_id="", page_size=3))

        assert [(e.entry.order_id, e.entry.event_type.value) for e in entries] == [
            (first.id, "order_created"),
            (second.id, "order_created"),
            (first.id, "order_cancelled"),
        ]
        assert read(ListOrderAuditEntries.Query(entries[-1].sequence, "", 20)) == []

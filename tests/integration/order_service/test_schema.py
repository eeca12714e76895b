"""What the database itself refuses, whoever asks: no code of ours is between these statements."""

from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from order_service.domain.order import Order
from order_service.domain.payment_operation import OperationKind, OperationStatus
from order_service.domain.state_machine import TRANSITIONS, OrderStatus
from order_service.storage.tables import (
    idempotency_keys,
    order_audit_actors,
    order_audit_entries,
    order_items,
    orders,
    payment_operations,
)
from service_kit.database import Database
from service_kit.ids import new_id
from tests.builders import new_key
from tests.integration.order_service.desk import Desk
from tests.unit.order_service.builders import AT, new_operation

ARROWS = {(source, target) for (source, _), target in TRANSITIONS.items()}
PAIRS = list(product(OrderStatus, OrderStatus))

# How a row looks in each status, apart from the status itself.
_PAID = (OrderStatus.PAID, OrderStatus.FULFILLED, OrderStatus.ARCHIVED, OrderStatus.REFUNDED)
_WAYS = {
    OrderStatus.CREATED: [],
    OrderStatus.PAID: [OrderStatus.PAID],
    OrderStatus.CANCELLED: [OrderStatus.CANCELLED],
    OrderStatus.FULFILLED: [OrderStatus.PAID, OrderStatus.FULFILLED],
    OrderStatus.REFUNDED: [OrderStatus.PAID, OrderStatus.REFUNDED],
    OrderStatus.ARCHIVED: [OrderStatus.PAID, OrderStatus.FULFILLED, OrderStatus.ARCHIVED],
}


def run(database: Database, statement: Any) -> None:
    with database.engine.begin() as connection:
        connection.execute(statement)


def refused(database: Database, statement: Any, *words: str) -> None:
    """Expect the statement to be refused, by a constraint or trigger that the error names."""
    with pytest.raises(DBAPIError) as error:
        run(database, statement)
    told = str(error.value.orig)
    assert any(word in told for word in words), told


def in_status(database: Database, order: Order, status: OrderStatus) -> None:
    """Move the order along its arrows by plain SQL."""
    for step in _WAYS[status]:
        run(database, moved(order, step))


def moved(order: Order, status: OrderStatus) -> sa.Update:
    """Move the order to a status, with everything else as that status wants it."""
    values: dict[str, Any] = {"status": status.value}
    if status in _PAID:
        values["payment_id"] = sa.func.coalesce(orders.c.payment_id, f"pay_{order.id[4:]}")
    if status is OrderStatus.REFUNDED:
        values["refunded_minor"] = orders.c.total_minor
    return sa.update(orders).where(orders.c.id == order.id).values(values)


@pytest.mark.requirement("FR-204")
class TestLifeCycle:
    @pytest.mark.parametrize(("source", "target"), [p for p in PAIRS if p[0] is not p[1]])
    def test_has_no_sixth_arrow(
        self, database: Database, desk: Desk, source: OrderStatus, target: OrderStatus
    ) -> None:
        order = desk.place()
        in_status(database, order, source)

        if (source, target) in ARROWS:
            run(database, moved(order, target))
            assert desk.status(order) is target
            return
        refused(database, moved(order, target), "no such arrow", "moves_along_an_arrow")
        assert desk.status(order) is source

    @pytest.mark.parametrize("status", OrderStatus)
    def test_lets_a_status_stay_as_it_is(
        self, database: Database, desk: Desk, status: OrderStatus
    ) -> None:
        order = desk.place()
        in_status(database, order, status)

        run(database, moved(order, status))
        assert desk.status(order) is status

    @pytest.mark.parametrize("status", [s for s in OrderStatus if s is not OrderStatus.CREATED])
    def test_begins_as_created(self, database: Database, status: OrderStatus) -> None:
        refused(
            database,
            sa.insert(orders).values(order_row(status=status.value)),
            "begin_as_created",
            "begins as created",
        )


def order_row(**other: Any) -> dict[str, Any]:
    """Build a row that is right but for what is named."""
    row = {
        "id": new_id("ord_"),
        "customer_id": "alice",
        "status": "created",
        "currency_code": "EUR",
        "total_minor": 4000,
        "refunded_minor": 0,
        "version": 1,
        "revision": 1,
        "created_at": AT,
        "updated_at": AT,
        "audit_count": 0,
        "audit_head": bytes(32),
    }
    return {**row, **other}


class TestOrders:
    @pytest.mark.parametrize(
        ("wrong", "constraint"),
        [
            ({"status": "lost"}, "begin"),
            ({"total_minor": 0}, "total_is_bounded|refunded_is_all_of_it"),
            ({"total_minor": 10**12 + 1}, "total_is_bounded"),
            ({"refunded_minor": -1}, "refunded_is_at_most_total"),
            ({"refunded_minor": 4001}, "refunded_is_at_most_total"),
            ({"refunded_minor": 4000}, "refunded_is_all_of_it"),
            ({"payment_id": "pay_1"}, "paid_by_a_payment"),
            ({"customer_id": None}, "customer_id"),
        ],
    )
    def test_are_bounded(self, database: Database, wrong: dict[str, Any], constraint: str) -> None:
        insert = sa.insert(orders).values(order_row(**wrong))
        refused(database, insert, *constraint.split("|"))

    @pytest.mark.parametrize(
        ("status", "values", "constraint"),
        [
            (OrderStatus.CREATED, {"payment_id": "pay_0"}, "paid_by_a_payment"),
            (OrderStatus.CREATED, {"status": "paid"}, "paid_by_a_payment"),
            (OrderStatus.PAID, {"refunded_minor": 4000}, "refunded_is_all_of_it"),
            (OrderStatus.PAID, {"refunded_minor": 4001}, "refunded_is_at_most_total"),
            (OrderStatus.PAID, {"status": "refunded"}, "refunded_is_all_of_it"),
            (OrderStatus.FULFILLED, {"refunded_minor": 4000}, "refunded_is_all_of_it"),
        ],
    )
    def test_agree_with_themselves(
        self,
        database: Database,
        desk: Desk,
        status: OrderStatus,
        values: dict[str, Any],
        constraint: str,
    ) -> None:
        order = desk.place(4000)
        in_status(database, order, status)

        change = sa.update(orders).where(orders.c.id == order.id).values(values)
        refused(database, change, constraint)

    @pytest.mark.parametrize("status", [OrderStatus.CREATED, OrderStatus.PAID])
    @pytest.mark.parametrize(
        "values",
        [
            {"id": "ord_other"},
            {"customer_id": "bob"},
            {"currency_code": "USD"},
            {"total_minor": 3999},
        ],
        ids=lambda values: next(iter(values)),
    )
    def test_keep_what_was_agreed(
        self, database: Database, desk: Desk, status: OrderStatus, values: dict[str, Any]
    ) -> None:
        order = desk.place()
        in_status(database, order, status)

        change = sa.update(orders).where(orders.c.id == order.id).values(values)
        refused(database, change, "what was agreed", "keep_what_was_agreed")

    @pytest.mark.parametrize("payment_id", ["pay_other", None])
    def test_keep_the_payment_that_paid(
        self, database: Database, desk: Desk, payment_id: str | None
    ) -> None:
        order = desk.place()
        in_status(database, order, OrderStatus.PAID)

        change = sa.update(orders).where(orders.c.id == order.id).values(payment_id=payment_id)
        refused(database, change, "what was agreed", "keep_what_was_agreed")

    def test_have_a_payment_each(self, database: Database, desk: Desk) -> None:
        first, second = desk.place(), desk.place()
        in_status(database, first, OrderStatus.PAID)
        payment_id = desk.order(first.id).payment_id

        values = {"status": "paid", "payment_id": payment_id}
        change = sa.update(orders).where(orders.c.id == second.id).values(values)
        refused(database, change, "payment_id")

    def test_are_never_deleted(self, database: Database, desk: Desk) -> None:
        order = desk.place()
        refused(
            database,
            sa.delete(orders).where(orders.c.id == order.id),
            "never deleted",
            "never_deleted",
        )
        if not database.is_sqlite:
            refused(database, sa.text("TRUNCATE orders CASCADE"), "never_")
        assert desk.order(order.id) == order

    def test_are_never_replaced(self, database: Database, desk: Desk) -> None:
        order = desk.place()
        in_status(database, order, OrderStatus.CANCELLED)
        insert = sa.insert(orders).values(order_row(id=order.id))
        if database.is_sqlite:
            refused(database, insert.prefix_with("OR REPLACE"), "never replaced")
        else:
            refused(database, insert, "pk_orders")

        assert desk.status(order) is OrderStatus.CANCELLED


class TestItems:
    @pytest.mark.parametrize(
        ("wrong", "constraint"),
        [
            ({"line": 0}, "line_is_bounded"),
            ({"line": 101}, "line_is_bounded"),
            ({"quantity": 0}, "quantity_is_bounded"),
            ({"quantity": 10_001}, "quantity_is_bounded"),
            ({"unit_price_minor": -1}, "price_is_bounded"),
            ({"unit_price_minor": 10**10 + 1}, "price_is_bounded"),
            ({"line": 1}, "order_items"),
            ({"order_id": "ord_none"}, "FOREIGN KEY|fk_order_items"),
        ],
    )
    def test_are_bounded_and_belong_to_an_order(
        self, database: Database, desk: Desk, wrong: dict[str, Any], constraint: str
    ) -> None:
        order = desk.place()
        row = {
            "order_id": order.id,
            "line": 9,
            "sku": "MUG-1",
            "name": "Mug",
            "quantity": 1,
            "unit_price_minor": 1,
        }

        insert = sa.insert(order_items).values({**row, **wrong})
        refused(database, insert, *constraint.split("|"))

    def test_stay_as_they_were_ordered(self, database: Database, desk: Desk) -> None:
        order = desk.place()
        of_order = order_items.c.order_id == order.id

        refused(database, sa.update(order_items).where(of_order).values(quantity=9), "never_change")
        refused(database, sa.delete(order_items).where(of_order), "never_")
        assert desk.order(order.id) == order


def operation_row(order: Order, kind: str = "charge", **other: Any) -> dict[str, Any]:
    """Build a row that is right but for what is named."""
    operation = new_operation(OperationKind(kind), order=order)
    refund = {"amount_minor": 1, "currency_code": "EUR", "payment_id": "pay_1"}
    row = {
        "id": operation.id,
        "order_id": order.id,
        "kind": kind,
        "status": "in_flight",
        "caller_role": "customer",
        "caller": "alice",
        "on_behalf_of": "",
        "trace_id": "",
        "method": operation.method,
        "idempotency_key": operation.idempotency_key,
        "fingerprint": operation.fingerprint,
        "started_at": AT,
        **(refund if kind == "refund" else {}),
        **other,
    }
    if row["status"] != "in_flight":
        row.setdefault("ended_at", AT)
    return row


ENDS = [status.value for status in OperationStatus if status is not OperationStatus.IN_FLIGHT]


class TestOperations:
    @pytest.mark.parametrize("second", ["charge", "cancel"])
    @pytest.mark.parametrize("status", ["in_flight", "succeeded"])
    @pytest.mark.parametrize("first", ["charge", "cancel"])
    def test_that_charge_or_cancel_are_one_per_order(
        self, database: Database, desk: Desk, first: str, status: str, second: str
    ) -> None:
        order = desk.place()
        run(
            database,
            sa.insert(payment_operations).values(operation_row(order, first, status=status)),
        )

        for state in ("in_flight", "succeeded"):
            row = operation_row(order, second, status=state)
            refused(
                database,
                sa.insert(payment_operations).values(row),
                "order_id",
                "one_charge_or_cancel",
            )

    @pytest.mark.parametrize("status", ["failed", "voided"])
    def test_that_came_to_nothing_make_room_for_another(
        self, database: Database, desk: Desk, status: str
    ) -> None:
        order = desk.place()
        for row in (
            operation_row(order, "charge", status=status),
            operation_row(order, "cancel", status=status),
            operation_row(order, "charge"),
        ):
            run(database, sa.insert(payment_operations).values(row))

    def test_that_refund_are_one_at_a_time(self, database: Database, desk: Desk) -> None:
        order = desk.place()
        for status in (*ENDS, "in_flight"):
            row = operation_row(order, "refund", status=status)
            run(database, sa.insert(payment_operations).values(row))

        row = operation_row(order, "refund")
        refused(database, sa.insert(payment_operations).values(row), "order_id", "one_refund")

    @pytest.mark.parametrize(
        ("wrong", "constraint"),
        [
            ({"kind": "gift"}, "kind_is_known"),
            ({"status": "lost", "ended_at": AT}, "status_is_known"),
            ({"ended_at": AT}, "ended_has_its_time"),
            ({"status": "failed", "ended_at": None}, "ended_has_its_time"),
            ({"order_id": "ord_none"}, "FOREIGN KEY|fk_payment_operations"),
        ],
    )
    def test_are_of_a_known_kind_and_end_at_some_time(
        self, database: Database, desk: Desk, wrong: dict[str, Any], constraint: str
    ) -> None:
        row = {**operation_row(desk.place()), **wrong}

        refused(database, sa.insert(payment_operations).values(row), *constraint.split("|"))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"amount_minor": 0},
            {"amount_minor": None},
            {"currency_code": None},
            {"payment_id": None},
        ],
        ids=["nothing", "no amount", "no currency", "no payment"],
    )
    def test_that_refund_say_how_much_of_what(
        self, database: Database, desk: Desk, wrong: dict[str, Any]
    ) -> None:
        row = operation_row(desk.place(), "refund", **wrong)

        refused(database, sa.insert(payment_operations).values(row), "refund_has_an_amount")

    @pytest.mark.parametrize("column", ["caller", "on_behalf_of"])
    def test_keep_who_began_them_until_that_may_be_forgotten(
        self, database: Database, desk: Desk, column: str
    ) -> None:
        row = operation_row(desk.place(), on_behalf_of="bob")
        run(database, sa.insert(payment_operations).values(row))
        change = sa.update(payment_operations).where(payment_operations.c.id == row["id"])
        for value in ("", "mallory"):
            refused(
                database, change.values({column: value}), "keep their callers", "keep_their_callers"
            )
        run(database, change.values(status="succeeded", ended_at=AT))
        refused(
            database, change.values({column: "mallory"}), "keep their callers", "keep_their_callers"
        )
        run(database, change.values(caller="", on_behalf_of=""))


@pytest.mark.requirement("FR-228")
class TestAuditEntries:
    def test_are_never_changed(self, database: Database, desk: Desk) -> None:
        order = desk.place()
        change = sa.update(order_audit_entries).where(order_audit_entries.c.order_id == order.id)

        refused(database, change.values(actor_reference="mallory"), "never change", "never_change")
        assert desk.history(order)[0].actor.id == "alice"

    def test_are_never_deleted(self, database: Database, desk: Desk) -> None:
        order = desk.place()
        delete = sa.delete(order_audit_entries).where(order_audit_entries.c.order_id == order.id)

        refused(database, delete, "never deleted", "never_change")
        if not database.is_sqlite:
            refused(database, sa.text("TRUNCATE order_audit_entries"), "never_change")
        assert desk.events(order) == ["order_created"]

    def test_are_never_replaced(self, database: Database, desk: Desk) -> None:
        order = desk.place()
        [stored] = _entries(database, order)
        insert = sa.insert(order_audit_entries).values({**stored, "position": 2})
        if database.is_sqlite:
            refused(database, insert.prefix_with("OR REPLACE"), "never replaced")
        else:
            refused(database, insert, "sequence")
        assert desk.events(order) == ["order_created"]

    def test_keep_their_places(self, database: Database, desk: Desk) -> None:
        order = desk.place()
        [stored] = _entries(database, order)
        del stored["sequence"]
        insert = sa.insert(order_audit_entries).values({**stored, "reason": "x"})
        refused(database, insert, "keep their places", "entries_place")
        if database.is_sqlite:
            refused(database, insert.prefix_with("OR REPLACE"), "keep their places")
        assert desk.events(order) == ["order_created"]

    def test_say_who_acted_for_good(self, database: Database, desk: Desk) -> None:
        order = desk.place()
        mine = order_audit_actors.c.order_id == order.id
        change = sa.update(order_audit_actors).where(mine).values(actor_id="mallory")
        refused(database, change, "never change", "never_change")
        if database.is_sqlite:
            row = {"order_id": order.id, "position": 1, "salt": b"", "actor_id": "mallory"}
            insert = sa.insert(order_audit_actors).values(**row, on_behalf_of="")
            refused(database, insert.prefix_with("OR REPLACE"), "never replaced")
        assert desk.history(order)[0].actor.id == "alice"

    def test_were_applied_or_refused(self, database: Database, desk: Desk) -> None:
        order = desk.place()
        [row] = _entries(database, order)
        del row["sequence"]
        row |= {"outcome": "ignored", "position": 2}

        refused(database, sa.insert(order_audit_entries).values(row), "outcome_is_known")


def _entries(database: Database, order: Order) -> list[dict[str, Any]]:
    """Read an order's entries as they are stored."""
    query = sa.select(order_audit_entries).where(order_audit_entries.c.order_id == order.id)
    rows = database.read(lambda connection: connection.execute(query).all())
    return [dict(row._mapping) for row in rows]


class TestKeys:
    @pytest.mark.parametrize(
        ("wrong", "constraint"),
        [
            ({"reply": b"reply"}, "reply_has_its"),
            ({"reply": b"reply", "reply_ok": True}, "reply_has_its_time"),
            ({"reply": b"reply", "replied_at": AT}, "reply_has_its_kind"),
            ({"replied_at": AT}, "reply_has_its_time"),
        ],
    )
    def test_have_a_whole_reply_or_none(
        self, database: Database, wrong: dict[str, Any], constraint: str
    ) -> None:
        row = {
            "caller_role": "customer",
            "caller": "alice",
            "idempotency_key": new_key(),
            "method": "PayOrder",
            "fingerprint": bytes(32),
            "owner_id": "run_1",
            "lease_until": AT,
            "used_at": AT,
            "claimed_at": AT,
        }

        refused(database, sa.insert(idempotency_keys).values({**row, **wrong}), constraint)

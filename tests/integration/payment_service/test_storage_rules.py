"""What the database itself refuses, whatever code or person sends it."""

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import exc

from checkout.payment.v1 import payment_pb2
from payment_service.storage.tables import (
    instance,
    metadata,
    payment_audit_entries,
    payment_orders,
    payments,
    refunds,
)
from service_kit.ids import new_id
from tests.builders import new_key
from tests.integration.payment_service.desk import Desk

pytestmark = pytest.mark.requirement("FR-123")

NOW = datetime(2026, 11, 22, tzinfo=UTC)


# A constraint or trigger by its name; SQLite does not name a foreign key.
A_RULE = r"\b(ck|uq|fk)_(payments|refunds)_|FOREIGN KEY|: (payment|refund)[a-z_]+"


def refuses(desk: Desk, statement: sa.Executable, rule: str = A_RULE) -> None:
    with pytest.raises(exc.DatabaseError, match=rule):
        desk.write(statement)


def update(payment: payment_pb2.Payment, **values: Any) -> sa.Executable:
    return sa.update(payments).where(payments.c.id == payment.id).values(**values)


def update_refund(refund: payment_pb2.Refund, **values: Any) -> sa.Executable:
    return sa.update(refunds).where(refunds.c.id == refund.id).values(**values)


def new_payment(desk: Desk, **values: Any) -> sa.Insert:
    """A pending payment, except for the given values."""
    order_id = values.get("order_id") or new_id("ord_")
    if "order_id" not in values:
        ends = {"audit_count": 0, "audit_head": bytes(32)}
        desk.write(sa.insert(payment_orders).values(order_id=order_id, **ends))
    return sa.insert(payments).values(
        **{
            "id": new_id("pay_"),
            "order_id": order_id,
            "customer_id": "alice",
            "currency_code": "EUR",
            "amount_minor": 1000,
            "refunded_minor": 0,
            "status": "pending",
            "gateway": "simulated",
            "payment_token": "tok_visa",
            "caller_role": "service",
            "caller": "shop",
            "idempotency_key": new_key(),
            "fingerprint": b"f" * 32,
            "created_at": NOW,
            "updated_at": NOW,
            **values,
        }
    )


class TestAPayment:
    def test_can_be_written_as_the_service_writes_it(self, desk: Desk) -> None:
        desk.write(new_payment(desk))

    @pytest.mark.parametrize(
        "values",
        [
            {"status": "settled"},
            {"status": "succeeded", "payment_token": None, "reply": b"", "gateway_reference": "r"},
            {"status": "failed", "payment_token": None, "reply": b"", "decline_code": "c"},
            {"amount_minor": 0},
            {"amount_minor": 1_000_000_000_001},
            {"amount_minor": None},
            {"currency_code": None},
            {"fingerprint": None},
            {"refunded_minor": 1},
            {"refunded_minor": -1},
            {"payment_token": None},
            {"gateway": None},
            {"decline_code": "card_declined"},
            {"void_reason": "order_sealed"},
            {"gateway_reference": "ch_1"},
            {"reply": b"reply"},
            {"status": "voided", "payment_token": None, "gateway": None, "reply": b""},
            {
                "status": "voided",
                "payment_token": None,
                "gateway": None,
                "reply": b"",
                "void_reason": "whim",
            },
            {"order_id": "ord_nobody_locked"},
        ],
        ids=str,
    )
    def test_is_refused_when_it_contradicts_itself(
        self, desk: Desk, values: dict[str, Any]
    ) -> None:
        refuses(desk, new_payment(desk, **values))

    @pytest.mark.parametrize("status", ["pending", "failed", "voided"])
    def test_that_has_succeeded_keeps_its_status(self, desk: Desk, status: str) -> None:
        refuses(desk, update(desk.process(), status=status), "payments_move_along_an_arrow")

    def test_that_is_pending_is_never_voided(self, desk: Desk) -> None:
        pending = desk.process("tok_timeoutBeforeCharge")
        refuses(
            desk,
            update(
                pending,
                status="voided",
                void_reason="order_sealed",
                payment_token=None,
                gateway=None,
                reply=b"",
            ),
            "payments_(move_along_an_arrow|stay_what_was_asked_for)",
        )

    @pytest.mark.parametrize("token", ["tok_visa", "tok_timeoutBeforeCharge"])
    @pytest.mark.parametrize(
        "values",
        [
            {"amount_minor": 1},
            {"currency_code": "USD"},
            {"customer_id": "bob"},
            {"idempotency_key": "another"},
            {"caller": "another"},
            {"fingerprint": b"x" * 32},
            {"created_at": NOW},
            {"id": "pay_another"},
        ],
        ids=str,
    )
    def test_stays_what_was_asked_for(self, desk: Desk, token: str, values: dict[str, Any]) -> None:
        refuses(desk, update(desk.process(token), **values), "payments_stay_what_was_asked_for")

    @pytest.mark.parametrize(
        "values",
        [{"gateway_reference": "ch_other"}, {"reply": b"other"}, {"payment_token": "tok_visa"}],
        ids=str,
    )
    def test_stays_as_it_ended(self, desk: Desk, values: dict[str, Any]) -> None:
        refuses(desk, update(desk.process(), **values))

    def test_gives_back_no_more_than_was_taken_and_never_less_than_before(self, desk: Desk) -> None:
        payment = desk.process()
        desk.refund(payment, 1000)
        refuses(desk, update(payment, refunded_minor=4001), "refunded_is_at_most_amount")
        refuses(desk, update(payment, refunded_minor=999), "payments_give_back_more_or_the_same")

    def test_is_never_replaced(self, desk: Desk) -> None:
        """Only SQLite has a statement that could."""
        if desk.database.is_sqlite:
            replacement = new_payment(desk, id=desk.process().id).prefix_with("OR REPLACE")
            refuses(desk, replacement, "payments_are_never_replaced")

    def test_is_the_only_live_one_of_its_order(self, desk: Desk) -> None:
        for token in ("tok_visa", "tok_timeoutBeforeCharge"):
            payment = desk.process(token)
            statement = new_payment(desk, order_id=payment.order_id)
            with pytest.raises(exc.IntegrityError), desk.database.engine.begin() as connection:
                connection.execute(statement)

    def test_is_the_only_one_under_its_key(self, desk: Desk) -> None:
        row = desk.payment_row(desk.process().id)
        statement = new_payment(
            desk,
            caller_role=row.caller_role,
            caller=row.caller,
            idempotency_key=row.idempotency_key,
        )
        with pytest.raises(exc.IntegrityError), desk.database.engine.begin() as connection:
            connection.execute(statement)

    def test_is_never_deleted(self, desk: Desk) -> None:
        payment = desk.process()
        statement = sa.delete(payments).where(payments.c.id == payment.id)
        refuses(desk, statement, "payments_are_never_deleted")


class TestARefund:
    @pytest.fixture
    def refund(self, desk: Desk) -> payment_pb2.Refund:
        return desk.refund(desk.process(), 1000).refund

    @pytest.mark.parametrize(
        "values",
        [
            {"status": "pending"},
            {"status": "failed"},
            {"amount_minor": 1},
            {"currency_code": "USD"},
            {"idempotency_key": "another"},
            {"gateway_reference": "re_other"},
            {"reply": b"other"},
            {"reply_ok": False},
        ],
        ids=str,
    )
    def test_stays_as_it_ended(
        self, desk: Desk, refund: payment_pb2.Refund, values: dict[str, Any]
    ) -> None:
        refuses(desk, update_refund(refund, **values))

    @pytest.mark.parametrize(
        "values",
        [
            {"amount_minor": 0},
            {"status": "succeeded", "reply": b"", "reply_ok": True, "gateway_reference": "re_1"},
            {"status": "failed", "reply": b"", "reply_ok": True, "decline_code": "c"},
            {"status": "failed", "reply": b"", "reply_ok": False, "decline_code": "c"},
            {"status": "failed", "reply": b""},
            {"reply": b"", "reply_ok": True},
            {"payment_id": "pay_nobody_made"},
        ],
        ids=str,
    )
    def test_is_refused_when_it_contradicts_itself(
        self, desk: Desk, values: dict[str, Any]
    ) -> None:
        payment = desk.process()
        pending = {
            "id": new_id("ref_"),
            "payment_id": payment.id,
            "order_id": payment.order_id,
            "currency_code": "EUR",
            "amount_minor": 1,
            "status": "pending",
            "caller_role": "order_service",
            "caller": "order-service",
            "idempotency_key": new_key(),
            "fingerprint": b"f" * 32,
            "created_at": NOW,
            "updated_at": NOW,
        }
        refuses(desk, sa.insert(refunds).values(**{**pending, **values}))
        desk.write(sa.insert(refunds).values(**pending))

    def test_is_never_deleted(self, desk: Desk, refund: payment_pb2.Refund) -> None:
        statement = sa.delete(refunds).where(refunds.c.id == refund.id)
        refuses(desk, statement, "refunds_are_never_deleted")


class TestASeal:
    @pytest.mark.parametrize("sealed_at", [None, NOW], ids=["opened", "moved"])
    def test_stays(self, desk: Desk, sealed_at: datetime | None) -> None:
        order_id = new_id("ord_")
        desk.seal(order_id)
        row = payment_orders.c.order_id == order_id
        moved = sa.update(payment_orders).where(row).values(sealed_at=sealed_at)
        refuses(desk, moved, "payment_orders_stay_sealed")
        refuses(desk, sa.delete(payment_orders).where(row), "payment_orders_are_never_deleted")


class TestTheHistory:
    def test_cannot_be_altered(self, desk: Desk) -> None:
        desk.process()
        altered = sa.update(payment_audit_entries).values(actor_reference="somebody")
        refuses(desk, altered, "payment_audit_entries_never_change")

    def test_cannot_be_shortened(self, desk: Desk) -> None:
        desk.process()
        refuses(desk, sa.delete(payment_audit_entries), "payment_audit_entries_are_never_deleted")

    def test_cannot_be_truncated(self, desk: Desk) -> None:
        desk.process()
        if not desk.database.is_sqlite:
            for table in ("payment_audit_entries", "payments", "refunds", "payment_orders"):
                refuses(desk, sa.text(f"TRUNCATE {table} CASCADE"))


class TestTheSchema:
    def test_that_was_migrated_is_the_one_in_the_code(self, desk: Desk) -> None:
        with desk.database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            differences = [
                difference
                for difference in compare_metadata(context, metadata)
                if "schema_version" not in str(difference)  # Alembic's own table
            ]
            assert differences == []

    def test_has_the_constraints_that_are_in_the_code(self, desk: Desk) -> None:
        inspector = sa.inspect(desk.database.engine)
        for table in metadata.sorted_tables:
            stored = {c["name"] for c in inspector.get_check_constraints(table.name)}
            written = {c.name for c in table.constraints if isinstance(c, sa.CheckConstraint)}
            assert stored == written

    def test_has_one_instance(self, desk: Desk) -> None:
        [instance_id] = desk.database.read(
            lambda connection: connection.execute(sa.select(instance.c.id)).scalars().all()
        )
        assert instance_id.startswith("db_")

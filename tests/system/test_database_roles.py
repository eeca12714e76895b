"""The roles of docs/database-roles/: each can do its work on PostgreSQL, and nothing beyond it."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import sqlalchemy as sa
from psycopg.errors import InsufficientPrivilege

import order_service.bootstrap
import payment_service.bootstrap
from order_service.__main__ import PROGRAM as ORDERS
from payment_service.__main__ import PROGRAM as PAYMENTS
from service_kit.migrations import upgrade
from tests.assertions import refused
from tests.builders import money
from tests.checkout import SECRET, Checkout, migrate_orders, migrate_payments, running_checkout
from tests.client import OPERATIONS
from tests.servers.postgres import PostgresServer
from tests.system.stages import ORDER_IN
from tests.system.trails import with_four_entries
from tests.waiting import eventually

ROOT: Final = Path(__file__).parents[2]
KINDS: Final = ("owner", "service", "auditor", "privacy")
EIGHT_YEARS: Final = timedelta(days=8 * 366)
PASSWORD: Final = secrets.token_hex(8)

pytestmark = pytest.mark.requirement("FR-342")


@dataclass(frozen=True)
class Guarded:
    """A database whose roles are set up as the file says."""

    service: str
    admin: sa.Engine
    prefix: str

    def url(self, kind: str) -> str:
        """Return the URL of a role."""
        role = self.admin.url.set(username=f"{self.prefix}_{self.service}_{kind}")
        return role.set(password=PASSWORD).render_as_string(hide_password=False)

    def refuses(self, kind: str, *statements: str, table: str = "") -> None:
        """Expect that a role may do nothing of this; {table} is one, {audit} begins others."""
        engine = sa.create_engine(self.url(kind), poolclass=sa.NullPool)
        for statement in statements:
            text = statement.format(table=table, audit=f"{self.service}_audit")
            with pytest.raises(sa.exc.ProgrammingError) as error, engine.begin() as connection:
                connection.exec_driver_sql(text)
            assert isinstance(error.value.orig, InsufficientPrivilege), text


@pytest.fixture(scope="module")
def guarded(postgres_server: PostgresServer) -> Iterator[tuple[Guarded, Guarded]]:
    """Both databases. The roles have names of this run's own: they are of the whole server."""
    prefix = f"checkout_{secrets.token_hex(4)}"
    templates = {"order": migrate_orders, "payment": migrate_payments}
    made = []
    for service, migrate in templates.items():
        url = postgres_server.create_database(postgres_server.template(f"{service}s", migrate))
        admin = sa.create_engine(url, poolclass=sa.NullPool)
        script = (ROOT / "docs" / "database-roles" / f"{service}.sql").read_text("utf-8")
        for _ in range(2):  # it may be run again
            with admin.begin() as connection:
                driver: Any = connection.connection.driver_connection
                driver.execute(script.replace("checkout_", f"{prefix}_"))
        with admin.begin() as connection:
            for kind in KINDS:
                role = f"{prefix}_{service}_{kind}"
                connection.exec_driver_sql(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
        made.append(Guarded(service, admin, prefix))
    yield made[0], made[1]
    for each in made:
        with each.admin.begin() as connection:
            for kind in KINDS:
                role = f"{prefix}_{each.service}_{kind}"
                connection.exec_driver_sql(f"DROP OWNED BY {role}")
                connection.exec_driver_sql(f"DROP ROLE {role}")
        postgres_server.drop_database(each.admin.url.render_as_string(hide_password=False))


@pytest.fixture(scope="module")
def checkout(
    guarded: tuple[Guarded, Guarded], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Checkout]:
    """Both services with their workers, each as its role."""
    orders, payments = guarded
    with running_checkout(
        tmp_path_factory.mktemp("checkout"),
        order_url=orders.url("service"),
        payment_url=payments.url("service"),
        migrate=False,
        background_work=True,
    ) as checkout:
        yield checkout


def point_to(
    monkeypatch: pytest.MonkeyPatch, guarded: tuple[Guarded, Guarded], kind: str, folder: Path
) -> None:
    """Set the variables of one who has these roles."""
    monkeypatch.setenv("CHECKOUT_SECRET_KEY", SECRET)
    monkeypatch.setenv("CHECKOUT_DATA_DIR", str(folder))
    for each in guarded:
        variable = f"{each.service.upper()}_SERVICE_DATABASE_URL"
        monkeypatch.setenv(variable, each.url(kind))


class TestTheService:
    def test_can_do_all_of_its_work(self, checkout: Checkout) -> None:
        for make in ORDER_IN.values():
            make(checkout)
        order = with_four_entries(checkout)
        assert len(checkout.history(order.id)) == len(checkout.payment_history(order.id)) == 4
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_DECLINED"):
            checkout.pay(checkout.place(), "tok_chargeDeclined")
        checkout.orders(OPERATIONS).ListOrders(page_size=5)

    def test_can_do_its_background_work(self, checkout: Checkout) -> None:
        order = checkout.place()
        checkout.process(order)
        eventually(lambda: checkout.events(order.id) == ["order_created", "order_paid"])

    def test_can_forget_keys(self, checkout: Checkout) -> None:
        checkout.place()
        keys = "SELECT count(*) FROM idempotency_keys"
        read = checkout.order_database.read
        assert read(lambda c: c.exec_driver_sql(keys).scalar_one()) > 0
        checkout.order_database.transact(
            lambda c: c.exec_driver_sql("DELETE FROM idempotency_keys")
        )

    def test_passes_a_gap_that_another_role_holds_open(
        self, checkout: Checkout, guarded: tuple[Guarded, Guarded]
    ) -> None:
        """Whose transactions run is seen by every role: the feed never skips."""
        before = checkout.place()
        last = checkout.history(before.id)[-1].sequence
        sequence = "pg_get_serial_sequence('order_audit_entries', 'sequence')"
        with guarded[0].admin.connect() as holding:
            holding.execute(sa.text("SELECT pg_current_xact_id()"))
            holding.execute(sa.text(f"SELECT nextval({sequence})"))
            order = checkout.place()
            client = checkout.orders(OPERATIONS)
            assert list(client.ListOrderAuditEntries(after_sequence=last).entries) == []
            holding.rollback()
        entries = client.ListOrderAuditEntries(after_sequence=last).entries
        assert [entry.order_id for entry in entries] == [order.id]

    @pytest.mark.parametrize("number", [0, 1], ids=["orders", "payments"])
    def test_can_neither_change_nor_delete_an_entry(
        self, guarded: tuple[Guarded, Guarded], number: int
    ) -> None:
        each = guarded[number]
        for name in ("entries", "actors"):
            each.refuses(
                "service",
                "UPDATE {table} SET position = 1",
                "DELETE FROM {table}",
                "TRUNCATE {table}",
                "DROP TABLE {table}",
                "ALTER TABLE {table} DISABLE TRIGGER ALL",
                "CREATE TRIGGER mine BEFORE INSERT ON {table} EXECUTE FUNCTION refuse()",
                "SET session_replication_role = replica",
                table=f"{each.service}_audit_{name}",
            )
        each.refuses(
            "service",
            "DELETE FROM {audit}_anonymisations",
            "INSERT INTO {audit}_anonymisations DEFAULT VALUES",
        )

    @pytest.mark.parametrize("number", [0, 1], ids=["orders", "payments"])
    def test_can_remove_nothing_that_money_hangs_on(
        self, guarded: tuple[Guarded, Guarded], number: int
    ) -> None:
        tables = (
            ("orders", "order_items", "payment_operations", "payment_inbox"),
            ("payment_orders", "payments", "refunds"),
        )[number]
        for table in tables:
            guarded[number].refuses(
                "service", "DELETE FROM {table}", "TRUNCATE {table}", table=table
            )
        guarded[number].refuses("service", "CREATE TABLE mine (id int)")


@pytest.mark.usefixtures("log")
class TestTheOthers:
    def test_who_owns_the_tables_can_migrate(self, guarded: tuple[Guarded, Guarded]) -> None:
        for each, bootstrap in zip(
            guarded, (order_service.bootstrap, payment_service.bootstrap), strict=True
        ):
            upgrade(each.url("owner"), bootstrap.MIGRATIONS)
            engine = sa.create_engine(each.url("owner"), poolclass=sa.NullPool)
            with engine.connect() as connection, connection.begin() as transaction:
                # As a migration might.
                table = f"{each.service}_audit_entries"
                connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN more int")
                transaction.rollback()

    def test_who_verifies_can_verify_and_changes_nothing(
        self,
        checkout: Checkout,
        guarded: tuple[Guarded, Guarded],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        order = with_four_entries(checkout)
        point_to(monkeypatch, guarded, "auditor", tmp_path)
        for program in (ORDERS, PAYMENTS):
            assert program.run(["audit", "verify"]) == 0
            assert program.run(["audit", "export", order.id]) == 0
            assert program.run(["audit", "anonymise"]) == 1
            assert "permission denied for table" in capsys.readouterr().err
        assert ORDERS.run(["verify", "--order", order.id]) == 0
        for each in guarded:
            each.refuses(
                "auditor",
                "DELETE FROM {audit}_entries",
                "UPDATE {audit}_entries SET position = 1",
            )

    def test_who_anonymises_does_that_and_nothing_else(
        self,
        checkout: Checkout,
        guarded: tuple[Guarded, Guarded],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        checkout.clock.move(-EIGHT_YEARS)
        old = checkout.refund(checkout.paid(), money(1000))
        checkout.clock.move(EIGHT_YEARS)
        point_to(monkeypatch, guarded, "privacy", tmp_path)
        for program in (ORDERS, PAYMENTS):
            assert program.run(["audit", "anonymise"]) == 0
        assert all(entry.actor_id.startswith("act_") for entry in checkout.history(old.id))
        assert all(entry.actor_id.startswith("act_") for entry in checkout.payment_history(old.id))
        for each in guarded:
            each.refuses(
                "privacy",
                "DELETE FROM {audit}_entries",
                "UPDATE {audit}_entries SET position = 1",
                "DELETE FROM {audit}_anonymisations",
                "INSERT INTO {audit}_entries DEFAULT VALUES",
            )
        guarded[0].refuses("privacy", "SELECT * FROM orders", "SELECT * FROM idempotency_keys")
        guarded[1].refuses("privacy", "SELECT * FROM payments")

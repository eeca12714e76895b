"""The migrations that begin the chain take in the histories that there are."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

import order_service.bootstrap
import order_service.storage.tables
import payment_service.bootstrap
import payment_service.storage.tables
from order_service.storage.store import SqlStore as OrderStore
from payment_service.storage.store import SqlStore as PaymentStore
from service_kit.audit.chain import ChainKey
from service_kit.audit.history import Histories
from service_kit.audit.mark import require_mark
from service_kit.audit.tables import Trail
from service_kit.audit.verify import verify
from service_kit.database import Database, UtcDateTime
from service_kit.migrations import upgrade
from service_kit.schema import pending
from service_kit.secrets import SecretKey, SecretUnusable
from tests.checkout import SECRET

SECRET_KEY: Final = SecretKey(SECRET.encode())
AT: Final = datetime(2025, 5, 5, 12, 0, 0, 123456, tzinfo=UTC)
NAME: Final = "mallory-of-these-tests"
# More than what is chained at a time.
MANY: Final = 1100

ORDER: Final[dict[str, Any]] = {
    "customer_id": "alice",
    "status": "created",
    "currency_code": "EUR",
    "total_minor": 4000,
    "refunded_minor": 0,
    "version": 1,
    "revision": 1,
    "created_at": AT,
    "updated_at": AT,
}
ENTRY: Final[dict[str, Any]] = {
    "actor_role": "service",
    "actor_id": "shop-backend",
    "on_behalf_of": "alice",
    "from_status": "",
    "to_status": "created",
    "outcome": "applied",
    "reason": "",
    "payment_id": "",
    "trace_id": "0" * 32,
}


@dataclass(frozen=True)
class Before:
    """A service's schema before the chain began, and the rows that it held."""

    package: str
    revision: str
    trail: Trail
    store: Any
    head: dict[str, Any]
    entry: dict[str, Any]


SERVICES: Final = (
    Before(
        package=order_service.bootstrap.MIGRATIONS,
        revision="0003",
        trail=order_service.storage.tables.TRAIL,
        store=OrderStore,
        head=ORDER,
        entry={**ENTRY, "event_type": "order_created"},
    ),
    Before(
        package=payment_service.bootstrap.MIGRATIONS,
        revision="0002",
        trail=payment_service.storage.tables.TRAIL,
        store=PaymentStore,
        head={"sealed_at": AT},
        entry={**ENTRY, "refund_id": "", "event_type": "order_sealed"},
    ),
)


@dataclass(frozen=True)
class Old:
    """A database as it was before the chain began."""

    service: Before
    url: str
    database: Database

    @property
    def entries(self) -> str:
        """The name of the table of entries."""
        return f"{self.service.trail.prefix}_entries"

    def insert(self, table: str, *rows: dict[str, Any]) -> None:
        """Insert rows as a process of that version did."""
        columns = (sa.column(n, UtcDateTime if n.endswith("at") else None) for n in rows[0])
        insert = sa.insert(sa.table(table, *columns))
        self.database.transact(lambda connection: connection.execute(insert, list(rows)))

    def add(self, *order_ids: str) -> None:
        """Insert orders without a history."""
        trail = self.service.trail
        self.insert(trail.heads, *({trail.head_id: n, **self.service.head} for n in order_ids))

    def write(self, *entries: tuple[str, str]) -> None:
        """Write entries, each of an order and by somebody."""
        rows = (
            {
                **self.service.entry,
                "order_id": order,
                "actor_id": by,
                "on_behalf_of": f"for {by}",
                "at": AT + timedelta(n),
            }
            for n, (order, by) in enumerate(entries)
        )
        self.insert(self.entries, *rows)

    def chain(self) -> None:
        """Bring the database to this version's schema."""
        upgrade(self.url, self.service.package, secret=lambda: SECRET_KEY)

    def columns(self, *names: str) -> list[int]:
        """Return the numbers that PostgreSQL has given to columns of the entries."""
        if self.database.is_sqlite:
            return []
        number = "SELECT attnum FROM pg_attribute WHERE attname = '{name}'"
        number += " AND attrelid = '{entries}'::regclass"
        return [self.execute(number, name=name) for name in names]

    def of_dropped(self, columns: Sequence[int]) -> list[str]:
        """Read what is left of columns that were dropped: SQLite's file, PostgreSQL's rows."""
        if self.database.is_sqlite:
            file = Path(self.database.engine.url.database or "")
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return [file.read_bytes().decode("latin-1")]
        left = []
        for number in columns:
            self.execute(
                "UPDATE pg_attribute SET attisdropped = false, atttypid = 'varchar'::regtype,"
                " attname = 'undropped' WHERE attnum = {number}"
                " AND attrelid = '{entries}'::regclass",
                number=str(number),
            )
            left.append(self.execute("SELECT string_agg(undropped, ',') FROM {entries}"))
            self.execute("ALTER TABLE {entries} DROP COLUMN undropped")
        return left

    def execute(self, statement: str, **names: str) -> Any:
        """Execute SQL, in which {entries}, {actors} and {heads} are tables; return one value."""
        actors, heads = f"{self.service.trail.prefix}_actors", self.service.trail.heads
        text = statement.format(entries=self.entries, actors=actors, heads=heads, **names)
        with self.database.engine.begin() as connection:
            result = connection.exec_driver_sql(text)
            return result.scalar() if result.returns_rows else None


@pytest.fixture(params=["sqlite_url", "postgres_url"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture(params=SERVICES, ids=["orders", "payments"])
def old(request: pytest.FixtureRequest, url: str) -> Iterator[Old]:
    """Each service's, at the revision before."""
    service: Before = request.param
    upgrade(url, service.package, to=service.revision)
    database = Database(url)
    yield Old(service, url, database)
    database.close()


@pytest.mark.requirement("FR-341")
class TestAMigratedHistory:
    def test_is_chained_in_its_order(self, old: Old) -> None:
        old.add("ord_1", "ord_2", "ord_3")
        old.write(("ord_2", "bob"), ("ord_1", "alice"), ("ord_2", "carol"), ("ord_2", "bob"))
        old.chain()

        trail, key = old.service.trail, ChainKey.of(old.service.trail.service, SECRET_KEY)
        found = verify(old.database, trail, key)
        assert (found.is_sound, found.histories, found.entries) == (True, 3, 4)
        history = Histories(old.database, trail).of("ord_2")
        assert [entry.actor and entry.actor.id for entry in history.entries] == [
            "bob",
            "carol",
            "bob",
        ]
        assert [entry.at for entry in history.entries] == [AT + timedelta(n) for n in (0, 2, 3)]

    def test_reads_as_before(self, old: Old) -> None:
        old.add("ord_1")
        old.write(("ord_1", "alice"), ("ord_1", "bob"))
        old.chain()

        key = ChainKey.of(old.service.trail.service, SECRET_KEY)
        store = old.service.store(old.database, chain_key=key)
        first, second = store.audit_entries(after=0, order_id="", limit=10)
        assert (first.entry.actor.id, second.entry.actor.id) == ("alice", "bob")
        assert (first.entry.actor.on_behalf_of, first.entry.actor.role) == ("for alice", "service")
        assert second.sequence == first.sequence + 1

    def test_says_who_acted_beside_the_entries_alone(self, old: Old) -> None:
        """Also where no query looks: once the row beside is deleted, the name is gone."""
        old.add("ord_1")
        old.write(*[("ord_1", NAME)] * 3)
        dropped = old.columns("actor_id", "on_behalf_of")
        old.chain()
        old.execute("DELETE FROM {actors}")

        left = "".join(old.of_dropped(dropped))
        assert left
        assert NAME not in left

    def test_goes_on_where_it_was(self, old: Old) -> None:
        """Numbers are not handed out twice, and the guards are back."""
        old.add("ord_1")
        old.write(*[("ord_1", "alice")] * 5)
        old.chain()

        names = "order_id, actor_role, actor_reference, seal_version, seal"
        names += ", at, event_type, from_status, to_status, outcome, reason, payment_id, trace_id"
        if "refund_id" in old.service.entry:
            names += ", refund_id"
        copy = "INSERT INTO {entries} (position, {names})"
        copy += " SELECT 6, {names} FROM {entries} WHERE position = 1"
        old.execute(copy, names=names)
        assert old.execute("SELECT max(sequence) FROM {entries}") == 6
        with pytest.raises(IntegrityError):
            old.execute(copy, names=names)
        for statement in (
            "UPDATE {entries} SET reason = 'x'",
            "DELETE FROM {entries}",
            "DELETE FROM {heads}",
        ):
            with pytest.raises(DBAPIError, match="never"):
                old.execute(statement)

    def test_may_be_long(self, old: Old) -> None:
        order_ids = [f"ord_{number:05}" for number in range(MANY)]
        old.add(*order_ids)
        old.write(*((order_id, "alice") for order_id in order_ids))
        old.chain()

        key = ChainKey.of(old.service.trail.service, SECRET_KEY)
        found = verify(old.database, old.service.trail, key)
        assert (found.is_sound, found.histories, found.entries) == (True, MANY, MANY)

    def test_needs_the_secret(self, old: Old) -> None:
        """All of it or nothing: without the secret the database stays as it was."""
        old.add("ord_1")
        old.write(("ord_1", "alice"))
        with pytest.raises(SecretUnusable, match="no secret"):
            upgrade(old.url, old.service.package)
        assert pending(old.url, old.service.package)
        old.write(("ord_1", "bob"))
        old.chain()
        key = ChainKey.of(old.service.trail.service, SECRET_KEY)
        assert verify(old.database, old.service.trail, key).entries == 2

    def test_needs_it_even_if_there_is_nothing_to_seal(self, old: Old) -> None:
        """What is written later must be sealed with the same one."""
        with pytest.raises(SecretUnusable, match="no secret"):
            upgrade(old.url, old.service.package)
        assert pending(old.url, old.service.package)

    def test_is_of_one_secret_from_then_on(self, old: Old) -> None:
        service = old.service.trail.service
        old.chain()
        require_mark(old.database, ChainKey.of(service, SECRET_KEY), service=service)
        for other in (
            ChainKey.of(service, SecretKey(SECRET[::-1].encode())),
            ChainKey.of("another-service", SECRET_KEY),
        ):
            with pytest.raises(SecretUnusable, match=f"CHECKOUT_SECRET_KEY.* the {service}"):
                require_mark(old.database, other, service=service)

    def test_is_closed_to_the_version_before(self, old: Old) -> None:
        """A process of it that still runs can write no entry that would break the chain."""
        old.add("ord_1")
        old.write(("ord_1", "alice"))
        old.chain()
        with pytest.raises(DBAPIError):
            old.write(("ord_1", "bob"))

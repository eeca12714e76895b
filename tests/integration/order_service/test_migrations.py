"""The migrations make exactly the tables that the code is written for."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from order_service.bootstrap import MIGRATIONS
from order_service.storage.tables import metadata
from service_kit.database import Database
from service_kit.schema import pending
from tests.checkout import migrate_orders

VERSION_TABLE = "order_service_schema_version"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
def migrated(empty_url: str) -> Iterator[Database]:
    migrate_orders(empty_url)
    database = Database(empty_url)
    yield database
    database.close()


@pytest.mark.requirement("FR-131")
class TestMigrations:
    def test_leave_nothing_to_generate(self, migrated: Database) -> None:
        with migrated.engine.connect() as connection:
            options = {"version_table": VERSION_TABLE, "compare_type": True}
            context = MigrationContext.configure(connection, opts=options)

            assert compare_metadata(context, metadata) == []

    def test_make_what_the_tables_declare_down_to_every_check(self, migrated: Database) -> None:
        schema = _reflected(migrated)
        with migrated.engine.begin() as connection:
            metadata.drop_all(connection)
            metadata.create_all(connection)

        assert schema == _reflected(migrated)
        assert {"orders", "order_items", "payment_operations"} < set(schema)

    def test_may_be_run_again(self, migrated: Database, empty_url: str) -> None:
        assert not pending(empty_url, MIGRATIONS)
        before = _reflected(migrated)
        migrate_orders(empty_url)

        assert _reflected(migrated) == before
        with migrated.engine.connect() as connection:
            count = sa.select(sa.func.count()).select_from(metadata.tables["instance"])
            assert connection.execute(count).scalar_one() == 1


def _reflected(database: Database) -> dict[str, Any]:
    """Read back every table but Alembic's own, with all that hangs on it."""
    inspector = sa.inspect(database.engine)
    names = [name for name in inspector.get_table_names() if name != VERSION_TABLE]
    return {
        name: {
            "columns": [{**c, "type": repr(c["type"])} for c in inspector.get_columns(name)],
            "primary key": inspector.get_pk_constraint(name),
            "foreign keys": inspector.get_foreign_keys(name),
            "unique": inspector.get_unique_constraints(name),
            "checks": sorted(map(str, inspector.get_check_constraints(name))),
            "indexes": _indexes(inspector, name),
        }
        for name in names
    }


def _indexes(inspector: sa.Inspector, table: str) -> list[str]:
    # Conditions are expression objects on SQLite: their text is what counts.
    return sorted(
        f"{index['name']} {index['column_names']} {index['unique']}"
        f" { ({k: str(v) for k, v in index.get('dialect_options', {}).items()}) }"
        for index in inspector.get_indexes(table)
    )

"""Migrations on the embedded database: all or nothing, repeatable, and silent about nothing."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from service_kit.errors import StorageUnavailable
from service_kit.migrations import upgrade
from service_kit.schema import SchemaUnknown, pending
from tests.unit.service_kit.schema_package import SchemaPackage, schema_package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SchemaPackage:
    package = schema_package(tmp_path, monkeypatch)
    package.add("0001", table="orders")
    return package


def tables(url: str) -> set[str]:
    with closing(sqlite3.connect(str(sa.make_url(url).database))) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows}


class TestUpgrade:
    def test_brings_a_new_database_to_the_newest_revision(
        self, package: SchemaPackage, sqlite_url: str
    ) -> None:
        package.add("0002", table="payments", previous="0001")
        with capture_logs() as log:
            upgrade(sqlite_url, package.name)
        assert tables(sqlite_url) == {"orders", "payments", package.version_table}
        [line] = log
        assert (line["event"], line["revision"], line["previous"]) == ("migrated", "0002", None)

    def test_goes_on_from_where_the_database_stands(
        self, package: SchemaPackage, sqlite_url: str
    ) -> None:
        upgrade(sqlite_url, package.name)
        package.add("0002", table="payments", previous="0001")
        upgrade(sqlite_url, package.name)
        assert "payments" in tables(sqlite_url)

    def test_does_nothing_the_second_time(self, package: SchemaPackage, sqlite_url: str) -> None:
        upgrade(sqlite_url, package.name)
        with capture_logs() as log:
            upgrade(sqlite_url, package.name)
        assert log == []

    def test_that_fails_changes_nothing(self, package: SchemaPackage, sqlite_url: str) -> None:
        package.add("0002", table="payments", previous="0001", then="op.execute('nonsense')")
        with pytest.raises(sa.exc.OperationalError):
            upgrade(sqlite_url, package.name)
        assert tables(sqlite_url) == set()

    def test_leaves_the_write_ahead_log_switched_on(
        self, package: SchemaPackage, sqlite_url: str
    ) -> None:
        upgrade(sqlite_url, package.name)
        with closing(sqlite3.connect(str(sa.make_url(sqlite_url).database))) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_leaves_logging_as_it_is(self, package: SchemaPackage, sqlite_url: str) -> None:
        before = (logging.getLogger().handlers[:], logging.getLogger().level)
        upgrade(sqlite_url, package.name)
        assert (logging.getLogger().handlers[:], logging.getLogger().level) == before
        assert not logging.getLogger("alembic").disabled

    def test_makes_no_file_but_the_database(
        self, package: SchemaPackage, sqlite_url: str, tmp_path: Path
    ) -> None:
        upgrade(sqlite_url, package.name)
        assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"database.db"}

    def test_refuses_a_database_that_is_newer(
        self,
        package: SchemaPackage,
        sqlite_url: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        package.add("0002", table="payments", previous="0001")
        upgrade(sqlite_url, package.name)
        newest = Path(package.folder, package.name.replace(".", "/"), "versions", "0002.py")
        newest.unlink()
        with pytest.raises(SchemaUnknown) as refused:
            upgrade(sqlite_url, package.name)
        assert refused.value.revision == "0002"
        with pytest.raises(SchemaUnknown):
            pending(sqlite_url, package.name)

    def test_of_two_services_in_one_database_do_not_mistake_each_other(
        self,
        package: SchemaPackage,
        sqlite_url: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        other = schema_package(tmp_path / "other", monkeypatch)
        other.add("0001", table="payments")
        upgrade(sqlite_url, package.name)
        upgrade(sqlite_url, other.name)
        assert {"orders", "payments"} <= tables(sqlite_url)


class TestPending:
    def test_is_true_without_a_database_and_makes_none(
        self, package: SchemaPackage, sqlite_url: str
    ) -> None:
        assert pending(sqlite_url, package.name)
        assert not Path(str(sa.make_url(sqlite_url).database)).exists()

    def test_is_false_once_migrated_and_true_with_a_newer_revision(
        self, package: SchemaPackage, sqlite_url: str
    ) -> None:
        upgrade(sqlite_url, package.name)
        assert not pending(sqlite_url, package.name)
        package.add("0002", table="payments", previous="0001")
        assert pending(sqlite_url, package.name)


class TestUnreachable:
    def test_folder(self, package: SchemaPackage, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/missing/shop.db"
        with pytest.raises(StorageUnavailable):
            upgrade(url, package.name)

    def test_file(self, package: SchemaPackage, tmp_path: Path) -> None:
        (tmp_path / "shop.db").mkdir()
        with pytest.raises(StorageUnavailable):
            upgrade(f"sqlite:///{tmp_path}/shop.db", package.name)

    def test_server(self, package: SchemaPackage) -> None:
        url = "postgresql+psycopg://127.0.0.1:1/shop?connect_timeout=2"
        for ask in (upgrade, pending):
            with pytest.raises(StorageUnavailable):
                ask(url, package.name)

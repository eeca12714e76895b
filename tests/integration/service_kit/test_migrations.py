"""Migrations by several processes at once, on both databases."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from service_kit.migrations import pending, upgrade
from tests.unit.service_kit.schema_package import SchemaPackage, schema_package

PROCESSES = 6
UPGRADE = "import sys; from service_kit.migrations import upgrade; upgrade(*sys.argv[1:])"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SchemaPackage:
    package = schema_package(tmp_path, monkeypatch)
    package.add("0001", table="orders", then="import time; time.sleep(0.3)")
    package.add("0002", table="payments", previous="0001")
    return package


def test_one_of_many_processes_migrates_and_the_others_find_it_done(
    url: str, package: SchemaPackage
) -> None:
    paths = os.pathsep.join([str(package.folder), *(path for path in sys.path if path)])
    migrating = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, url, package.name],
            env={**os.environ, "PYTHONPATH": paths},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(PROCESSES)
    ]
    told = [process.communicate(timeout=60)[1].decode() for process in migrating]
    assert [process.returncode for process in migrating] == [0] * PROCESSES, told
    assert not pending(url, package.name)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM orders")) == 1
    engine.dispose()


def test_a_migration_that_fails_changes_nothing(url: str, package: SchemaPackage) -> None:
    package.add("0003", table="refunds", previous="0002", then="op.execute('nonsense')")
    with pytest.raises(sa.exc.DBAPIError):
        upgrade(url, package.name)
    engine = sa.create_engine(url)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_migrated_database_has_nothing_pending(url: str, package: SchemaPackage) -> None:
    assert pending(url, package.name)
    upgrade(url, package.name)
    assert not pending(url, package.name)

"""Migrations by several processes at once, on both databases."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from service_kit.migrations import upgrade
from service_kit.schema import _locked, pending
from tests.unit.service_kit.schema_package import SchemaPackage, schema_package

PROCESSES = 6
# All wait until all are ready: importing takes longer than migrating.
UPGRADE = """
import sys
from service_kit.migrations import upgrade

print("ready", flush=True)
sys.stdin.readline()
upgrade(*sys.argv[1:])
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SchemaPackage:
    package = schema_package(tmp_path, monkeypatch)
    package.add("0001", table="orders", then="import time; time.sleep(0.3)")
    package.add("0002", table="payments", previous="0001")
    return package


def started(url: str, package: SchemaPackage) -> subprocess.Popen[str]:
    """Start a process that is ready to migrate and waits for its go."""
    paths = os.pathsep.join([str(package.folder), *(path for path in sys.path if path)])
    return subprocess.Popen(
        [sys.executable, "-c", UPGRADE, url, package.name],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def let_go(*processes: subprocess.Popen[str]) -> None:
    """Let them migrate, all at once."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def test_one_of_many_processes_migrates_and_the_others_find_it_done(
    url: str, package: SchemaPackage
) -> None:
    migrating = [started(url, package) for _ in range(PROCESSES)]
    let_go(*migrating)
    told = [process.communicate(timeout=60)[1] for process in migrating]
    assert [process.returncode for process in migrating] == [0] * PROCESSES, told
    assert not pending(url, package.name)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM orders")) == 1
    engine.dispose()


def test_a_process_does_not_touch_a_file_that_another_is_setting_up(
    sqlite_url: str, package: SchemaPackage, tmp_path: Path
) -> None:
    """SQLite's own waiting does not cover the switch to the write-ahead log."""
    process = started(sqlite_url, package)
    with _locked(tmp_path):
        let_go(process)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=1)
        assert not (tmp_path / "database.db").exists()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert not pending(sqlite_url, package.name)


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

"""Which revision a database has, and which it ought to have; without Alembic, which takes its time.

Every process that serves asks this before anything else.
"""

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy import event

from service_kit.errors import StorageUnavailable

_LOCK_SECONDS: Final = 30
# As Alembic has them in each revision's file.
_REVISION: Final = re.compile(r"^revision\b.*=\s*[\"'](.+)[\"']", re.MULTILINE)
_PREVIOUS: Final = re.compile(r"^down_revision\b.*=\s*[\"'](.+)[\"']", re.MULTILINE)


class SchemaUnknown(Exception):
    """The database has a revision that these migrations do not contain: they are older."""

    def __init__(self, *, revision: str) -> None:
        super().__init__(f"the database is at revision {revision}, which this version has not")
        self.revision = revision


def pending(url: str, package: str) -> bool:
    """Say whether there is something to migrate. Raises SchemaUnknown, StorageUnavailable.

    `package` has the migrations (like `shop.storage.migrations`).
    """
    file = _sqlite_file(url)
    if file is not None and not file.exists():
        return True  # and looking would make the file
    with connected(url) as connection:
        revision = revision_of(connection, package)
    revisions, newest = _revisions(package)
    _require_known(revision, revisions)
    return revision not in newest


def require_known(revision: str | None, package: str) -> None:
    """Raise SchemaUnknown for a revision that the package has not."""
    _require_known(revision, _revisions(package)[0])


def revision_of(connection: sa.Connection, package: str) -> str | None:
    """Read which revision the database has; none if it is empty."""
    name = version_table(package)
    if not sa.inspect(connection).has_table(name):
        return None
    revision: sa.ColumnClause[str] = sa.column("version_num")
    return connection.execute(sa.select(revision).select_from(sa.table(name))).scalar_one_or_none()


def version_table(package: str) -> str:
    """Name the table of the revision.

    Two services that share a database by mistake must not take each other's revisions for their
    own.
    """
    return f"{package.partition('.')[0]}_schema_version"


def folder_of(package: str) -> Path:
    """Find the package's files."""
    spec = find_spec(package)
    assert spec is not None, f"there is no package {package}"
    assert spec.submodule_search_locations, f"{package} is not a package"
    return Path(spec.submodule_search_locations[0])


def _revisions(package: str) -> tuple[set[str], set[str]]:
    """Return all revisions, and those that no other one follows."""
    texts = [file.read_text("utf-8") for file in (folder_of(package) / "versions").glob("*.py")]
    known = {found[1] for text in texts if (found := _REVISION.search(text))}
    followed = {found[1] for text in texts if (found := _PREVIOUS.search(text))}
    return known, known - followed


def _require_known(revision: str | None, revisions: set[str]) -> None:
    if revision is not None and revision not in revisions:
        raise SchemaUnknown(revision=revision)


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """Connect to a database, on SQLite as the only one who migrates. Raises StorageUnavailable."""
    file = _sqlite_file(url)
    if file is None:
        with _opened(sa.create_engine(url, poolclass=sa.NullPool)) as connection:
            yield connection
        return
    with _locked(file.parent), _opened(_sqlite(url)) as connection:
        yield connection


def _opened(engine: sa.Engine) -> sa.Connection:
    try:
        return engine.connect()
    except sa.exc.OperationalError as error:
        raise StorageUnavailable from error


def _sqlite_file(url: str) -> Path | None:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    return Path(parsed.database or "").absolute()


def _sqlite(url: str) -> sa.Engine:
    engine = sa.create_engine(url, poolclass=sa.NullPool)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # The driver would begin a transaction before data statements only, and commit before
        # tables are made.
        connection.isolation_level = None
        # nosemgrep: sql-from-strings - a number of ours; a pragma takes no bound value
        connection.execute(f"PRAGMA busy_timeout = {_LOCK_SECONDS * 1000}")
        # What a revision moves elsewhere is gone from where it was.
        connection.execute("PRAGMA secure_delete = ON")
        # Switching is not covered by the busy timeout; in here nobody else does it.
        connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder, among all processes that migrate; it needs no file of its own."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:  # there is no such folder, or it is not ours
        raise StorageUnavailable from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

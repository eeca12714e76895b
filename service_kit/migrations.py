"""Schema migrations by Alembic: no ini file, no logging of its own, one process at a time."""

import fcntl
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event

from service_kit.errors import StorageUnavailable
from service_kit.logging import get_logger
from service_kit.secrets import SecretKey, SecretUnusable

_CONNECTION: Final = "connection"
_VERSION_TABLE: Final = "version_table"
_KEY: Final = "key"
_LOCK_SECONDS: Final = 30


class SchemaUnknown(Exception):
    """The database has a revision that these migrations do not contain: they are older."""

    def __init__(self, *, revision: str) -> None:
        super().__init__(f"the database is at revision {revision}, which this version has not")
        self.revision = revision


def upgrade(
    url: str, package: str, *, secret: Callable[[], SecretKey] | None = None, to: str = "head"
) -> None:
    """Bring the database to the newest revision in `package` (like `shop.storage.migrations`).

    All of it or nothing, in one transaction. Several processes may do it at once: one does,
    the others wait and find it done. `secret` is asked for only by a revision that seals the
    database with it. Raises SchemaUnknown, StorageUnavailable, SecretUnusable.
    """
    config = _config(package)
    config.attributes[_KEY] = secret
    with _connected(url) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            # Any number will do that no other program locks in this database.
            key = zlib.crc32(package.encode())
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
        before = _revision(connection, config)
        _check_known(config, before)
        config.attributes[_CONNECTION] = connection
        command.upgrade(config, to)
        after = _revision(connection, config)
    if after != before:
        get_logger().info("migrated", revision=after, previous=before)


def pending(url: str, package: str) -> bool:
    """Say whether `upgrade` has something to do. Raises SchemaUnknown, StorageUnavailable."""
    file = _sqlite_file(url)
    if file is not None and not file.exists():
        return True  # and looking would make the file
    config = _config(package)
    with _connected(url) as connection:
        revision = _revision(connection, config)
    _check_known(config, revision)
    return revision != ScriptDirectory.from_config(config).get_current_head()


def secret_key() -> SecretKey:
    """Return the secret, to the revision that runs. Raises SecretUnusable if there is none."""
    secret: Callable[[], SecretKey] | None = context.config.attributes[_KEY]
    if secret is None:
        raise SecretUnusable("there is no secret to seal what the database holds")
    return secret()


def run_env(target_metadata: sa.MetaData) -> None:
    """Run the migrations on the connection that `upgrade` opened: all that env.py does."""
    config = context.config
    context.configure(
        connection=config.attributes[_CONNECTION],
        target_metadata=target_metadata,
        version_table=config.attributes[_VERSION_TABLE],
    )
    # Within `upgrade`'s transaction.
    context.run_migrations()


def _config(package: str) -> Config:
    spec = find_spec(package)
    assert spec is not None, f"there is no package {package}"
    assert spec.submodule_search_locations, f"{package} is not a package"
    folder = spec.submodule_search_locations[0]
    config = Config()
    # The value is a template: a % in a path would begin a name.
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    # Two services that share a database by mistake must not take each other's revisions for
    # their own.
    config.attributes[_VERSION_TABLE] = f"{package.partition('.')[0]}_schema_version"
    return config


def _revision(connection: sa.Connection, config: Config) -> str | None:
    options = {_VERSION_TABLE: config.attributes[_VERSION_TABLE]}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _check_known(config: Config, revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaUnknown(revision=revision)


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
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

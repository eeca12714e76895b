"""Transactions on SQLite and PostgreSQL: lock first, decide, write; or nothing at all."""

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy import event, exc
from sqlalchemy.engine import Connection, Dialect, Engine

from service_kit.connections import Connections
from service_kit.errors import ConcurrentUpdate, StorageUnavailable
from service_kit.statements import Draft, Session, Statement

T = TypeVar("T")

ATTEMPTS_MAX: Final = 5
_PAUSE_SECONDS: Final = (0.005, 0.05)
# Then twice as long each time: a second and a half in all.
_RESTART_SECONDS: Final = 0.1
# With one more wait for a lock still less than the callers' usual deadline: whoever has gone by
# then has learned nothing, and has kept a thread.
_PATIENCE_SECONDS: Final = 5.0

# Another transaction won: serialization_failure, deadlock_detected, lock_not_available,
# unique_violation (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_CONFLICT_SQLSTATES: Final = frozenset({"40001", "40P01", "55P03", "23505"})
# The server is gone, going, full or read-only.
_UNAVAILABLE_SQLSTATE_CLASSES: Final = ("08", "53", "57", "58", "25006")

_SQLITE_CONFLICTS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    }
)
_SQLITE_UNAVAILABLE: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)


class RaceLost(Exception):
    """A row is not as it was when it was read: the transaction must be run again."""


_begin: Final = Statement(sa.text("BEGIN"))
_begin_writing: Final = Statement(sa.text("BEGIN IMMEDIATE"))

_open: ContextVar[bool] = ContextVar("transaction_is_open", default=False)


def transaction_is_open() -> bool:
    """Say whether this thread is inside a transaction; a remote call must not be."""
    return _open.get()


class Database:
    """One database and its connection pool.

    `url` is an SQLAlchemy URL of SQLite or PostgreSQL. A statement waits `lock_wait_seconds`
    for other transactions, a caller `pool_wait_seconds` for a connection. After
    `patience_seconds` a transaction is not run again. `read_only` opens an SQLite file without
    making or changing it; PostgreSQL is not affected. All methods raise StorageUnavailable if
    the database does not answer.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 16,
        lock_wait_seconds: float = 2.0,
        pool_wait_seconds: float = 3.0,
        patience_seconds: float = _PATIENCE_SECONDS,
        read_only: bool = False,
    ) -> None:
        parsed = sa.make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite and read_only:
            parsed = _read_only(parsed)
        self._engine = (_sqlite if self.is_sqlite else _postgres)(
            parsed,
            int(lock_wait_seconds * 1000),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_wait_seconds,
            # A failed statement is logged: its text may be, what it was about to store may not.
            hide_parameters=True,
        )
        # SQLite has one writer at a time; waiting here is fair and cheap, in the file it is not.
        self._writer = threading.Lock() if self.is_sqlite else None
        self._patience_seconds = patience_seconds
        self._connections = Connections(
            # What SQLAlchemy begins on these only reads: `_transact` has begun before.
            self._engine.execution_options(reads_only=True),
            limit=pool_size,
            wait_seconds=pool_wait_seconds,
        )
        self._log = structlog.get_logger()

    @property
    def engine(self) -> Engine:
        """The engine, for migrations and tests."""
        return self._engine

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction and commit it.

        `work` may run up to five times: a transaction that lost a race or its connection is
        run again from its beginning, unless its patience is over. It must have no effect
        outside the transaction and be able to recognise its own commit, whose confirmation may
        have been lost.

        Raises ConcurrentUpdate if the race is lost five times or for too long,
        StorageUnavailable if the database does not answer or did not confirm.
        """
        return self._transact(work, time.monotonic() + self._patience_seconds)

    def change(self, work: Callable[[Session], T]) -> T:
        """Run `work` as `transact` does; on PostgreSQL without locks first, in a draft.

        Most of the time nobody else is at the same rows. Then a draft does the same in fewer
        round trips; and whenever it does not, the transaction decides, also about errors.
        """
        give_up_at = time.monotonic() + self._patience_seconds
        lost: exc.DBAPIError | None = None
        if not self.is_sqlite:
            try:
                return self._draft(work)
            except exc.TimeoutError as error:
                raise self._unavailable(error) from error
            except Exception as error:  # noqa: BLE001 - of any kind: it comes again, or was outdated
                self._log.debug("database.draft_in_vain", error=type(error).__name__)
                if isinstance(error, exc.DBAPIError) and _is_unavailable(error):
                    lost = error  # it may have been done
        return self._transact(work, give_up_at, lost)

    def _draft(self, work: Callable[[Session], T]) -> T:
        assert not transaction_is_open(), "a draft inside a transaction"
        with _marked_open(), self._connections.use() as connection:
            draft = Draft(connection)
            result = work(draft)
            draft.make()
            return result

    def _transact(
        self,
        work: Callable[[Connection], T],
        give_up_at: float,
        lost: exc.DBAPIError | None = None,
    ) -> T:
        assert not transaction_is_open(), "a transaction inside a transaction"
        attempt = 1 if lost else 0
        while _goes_on(attempt, give_up_at, is_lost=lost is not None):
            attempt += 1
            try:
                with (
                    self._turn(give_up_at),
                    _marked_open(),
                    self._connections.use() as connection,
                    self._begun(connection),
                ):
                    return work(connection)
            except RaceLost:
                continue
            except exc.TimeoutError as error:  # the pool's: every connection is in use
                raise self._unavailable(error) from error
            except exc.DBAPIError as error:
                if _is_unavailable(error):
                    lost = error
                elif not _is_conflict(error):
                    raise _without_values(error) from None
        if lost:
            raise self._unavailable(lost) from lost
        raise ConcurrentUpdate(attempts=attempt)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads. On PostgreSQL each statement sees its own moment."""
        try:
            with self._connections.use() as connection:
                return work(connection)
        except exc.TimeoutError as error:
            raise self._unavailable(error) from error
        except exc.DBAPIError as error:
            if _is_unavailable(error) or _is_conflict(error):
                raise self._unavailable(error) from error
            raise _without_values(error) from None

    def read_at_one_moment(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, in statements that all see the same moment."""

        def work_at_one_moment(connection: Connection) -> T:
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return work(connection)

        return self.read(work if self.is_sqlite else work_at_one_moment)

    def ping(self) -> None:
        """Return if the database answers."""
        self.read(lambda connection: connection.execute(sa.select(1)))

    def close(self) -> None:
        """Close every pooled connection."""
        self._connections.close()
        self._engine.dispose()

    @contextmanager
    def _begun(self, connection: Connection) -> Iterator[None]:
        (_begin_writing if self.is_sqlite else _begin).change(connection)
        with connection.begin():
            yield

    @contextmanager
    def _turn(self, give_up_at: float) -> Iterator[None]:
        if self._writer is None:
            yield
            return
        # Others of this process may each wait in vain for another program that holds the file.
        if not self._writer.acquire(timeout=max(0.0, give_up_at - time.monotonic())):
            raise RaceLost
        try:
            yield
        finally:
            self._writer.release()

    def _unavailable(self, error: exc.DBAPIError | exc.TimeoutError) -> StorageUnavailable:
        # The caller learns that it is so; why is for those who run the database.
        cause = getattr(error, "orig", error)
        self._log.warning("database.unavailable", error=type(cause).__name__, problem=str(cause))
        return StorageUnavailable()


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment in UTC. Naive values are refused; SQLite, which has no zones, stores UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware moment into UTC. Raises ValueError for a naive one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the moment its zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def sorted_text(length: int) -> sa.String:
    """Make a text type that sorts by its bytes on both databases, as ids must."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _goes_on(attempts: int, give_up_at: float, *, is_lost: bool) -> bool:
    """Say whether to try after so many attempts in vain, and wait for the right moment."""
    if attempts == ATTEMPTS_MAX:
        return False
    if attempts and is_lost:
        # It may be starting again.
        time.sleep(_RESTART_SECONDS * 2 ** (attempts - 1))
    elif attempts:
        # Not in step with the transaction that won.
        time.sleep(random.uniform(*_PAUSE_SECONDS) * attempts)  # noqa: S311
    return not attempts or time.monotonic() < give_up_at


@contextmanager
def _marked_open() -> Iterator[None]:
    token = _open.set(True)
    try:
        yield
    finally:
        _open.reset(token)


def _read_only(url: sa.URL) -> sa.URL:
    file = quote(str(Path(url.database or "").absolute()))
    return url.set(database=f"file:{file}", query={"mode": "ro", "uri": "true"})


def _sqlite(url: sa.URL, lock_wait_ms: int, **options: Any) -> Engine:
    engine = sa.create_engine(url, **options)
    # A copy need not have that mode, and one who only reads cannot give it to it.
    mode = () if url.query.get("mode") == "ro" else ("journal_mode = WAL",)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transaction handling begins too late; ours is in `begin` below.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {lock_wait_ms}",
            *mode,
            # An intent must survive a power cut before money moves: WAL alone would not do.
            "synchronous = FULL",
            "foreign_keys = ON",
            # What was deleted is gone from the file too: a payment token must not linger.
            "secure_delete = ON",
        ):
            # nosemgrep: sql-from-strings - of the list above; a pragma takes no bound value
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if not driver.in_transaction:
            reads_only = connection.get_execution_options().get("reads_only")
            (_begin if reads_only else _begin_writing).change(connection)

    return engine


def _postgres(url: sa.URL, lock_wait_ms: int, **options: Any) -> Engine:
    engine = sa.create_engine(
        url,
        # A transaction begins below, so that a single statement needs none.
        isolation_level="AUTOCOMMIT",
        # A type that we do not have: looking for it takes each connection a transaction.
        use_native_hstore=False,
        connect_args={
            "connect_timeout": 3,
            # There are few statements, and each comes again.
            "prepare_threshold": 1,
            "options": f"-c timezone=UTC -c lock_timeout={lock_wait_ms}"
            r" -c default_transaction_isolation=read\ committed"
            " -c statement_timeout=5s -c idle_in_transaction_session_timeout=10s"
            # As with SQLite's FULL above, whatever the database is set to.
            " -c synchronous_commit=on",
        },
        **options,
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("reads_only"):
            _begin.change(connection)

    return engine


def _is_conflict(error: exc.DBAPIError) -> bool:
    cause = error.orig
    if isinstance(cause, psycopg.Error):
        return cause.sqlstate in _CONFLICT_SQLSTATES
    return _sqlite_code(cause) in _SQLITE_CONFLICTS


def _is_unavailable(error: exc.DBAPIError) -> bool:
    cause = error.orig
    if error.connection_invalidated:
        return True
    if isinstance(cause, psycopg.Error):
        if cause.sqlstate is None:  # the client library's own: no connection, or a wrong value
            return isinstance(cause, psycopg.OperationalError)
        return cause.sqlstate.startswith(_UNAVAILABLE_SQLSTATE_CLASSES)
    return _sqlite_code(cause) in _SQLITE_UNAVAILABLE


def _without_values(error: exc.DBAPIError) -> exc.DBAPIError:
    """Return the error without what PostgreSQL adds to its sentence: the values of the row."""
    cause = error.orig
    if not isinstance(cause, psycopg.Error):
        return error
    bare = type(cause)(cause.diag.message_primary or str(cause))
    told = type(error)(error.statement, None, bare, hide_parameters=True)
    return told.with_traceback(error.__traceback__)


def _sqlite_code(cause: object) -> int | None:
    code: int | None = getattr(cause, "sqlite_errorcode", None)
    # Extended codes keep the primary one in their low byte, except where we list the former.
    return code if code is None or code in _SQLITE_CONFLICTS else code & 0xFF

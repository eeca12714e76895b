"""Connections that are used again and again, without a look at each of them every time."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final

from sqlalchemy import exc
from sqlalchemy.engine import Connection, Engine


class Connections:
    """At most `limit` connections of an engine whose pool has as many.

    The one that was used last is used next. Between its uses it stays out of the pool, whose care
    costs more than a statement does; one whose use failed goes back there. A connection that was
    lost takes with it all that are idle here: the database was lost to them too.
    """

    def __init__(self, engine: Engine, *, limit: int, wait_seconds: float) -> None:
        self._engine = engine
        self._places = threading.Semaphore(limit)
        self._wait_seconds = wait_seconds
        # Appended to and popped from in one step each: no two uses get the same.
        self._idle: Final[list[Connection]] = []
        self._is_closed = False

    def use(self) -> "_Use":
        """Have a connection for a block. Raises sqlalchemy.exc.TimeoutError if none gets free."""
        return _Use(self)

    def take(self) -> Connection:
        """Take an idle connection, or open one."""
        if not self._places.acquire(timeout=self._wait_seconds):
            raise exc.TimeoutError(f"no connection got free within {self._wait_seconds:g} s")
        try:
            with suppress(IndexError):
                return self._idle.pop()
            return self._engine.connect()
        except BaseException:
            self._places.release()
            raise

    def give_back(self, connection: Connection, *, failed: bool) -> None:
        """Keep a connection for the next use."""
        try:
            if connection.invalidated:
                self._lose_all()
            if self._is_closed:
                # The engine's pool may be gone.
                connection.invalidate()
            if failed or self._is_closed:
                connection.close()
                return
            if connection.in_transaction():
                connection.rollback()
            self._idle.append(connection)
        except BaseException:
            with suppress(exc.SQLAlchemyError):
                connection.close()
            raise
        finally:
            self._places.release()

    def close(self) -> None:
        """Close what is idle, and what is in use once it is given back."""
        self._is_closed = True
        for connection in self._all_idle():
            connection.close()

    def _lose_all(self) -> None:
        for connection in self._all_idle():
            connection.invalidate()
            connection.close()

    def _all_idle(self) -> Iterator[Connection]:
        with suppress(IndexError):
            while True:
                yield self._idle.pop()


class _Use:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> Connection:
        self._connection = self._connections.take()
        return self._connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._connections.give_back(self._connection, failed=kind is not None)

"""Values as they are stored, whatever somebody has put there: any may be of a wrong type."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

T = TypeVar("T")

# What a moment is read as that is none.
NO_MOMENT: Final = datetime.min.replace(tzinfo=UTC)


class Undecodable(bytes):
    """Text of SQLite that is none: no UTF-8."""

    __slots__ = ()


# What names a subject; bytes only if somebody has put them there.
Subject = str | bytes


class Unreadable(Exception):
    """A value is of a type that its column never has."""


def moment(raw: object) -> datetime:
    """Read a moment; text of SQLite without a zone is in UTC. Raises Unreadable."""
    try:
        at = datetime.fromisoformat(raw) if isinstance(raw, str) else raw
        if isinstance(at, datetime):
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise Unreadable


def number(raw: object) -> int:
    """Read a whole number. Raises Unreadable."""
    return _of(int, raw)


def text(raw: object) -> str:
    """Read text. Raises Unreadable."""
    return _of(str, raw)


def binary(raw: object) -> bytes:
    """Read bytes. Raises Unreadable."""
    return _of(bytes, raw)


def either(read: Callable[[object], T], raw: object, otherwise: T) -> T:
    """Read a value, or take another one if it is unreadable."""
    try:
        return read(raw)
    except Unreadable:
        return otherwise


def moment_column(name: str, *, is_sqlite: bool) -> sa.ColumnElement[Any]:
    """Select a moment as its text: not every one that PostgreSQL holds is one of Python's."""
    if is_sqlite:
        return sa.column(name)
    # nosemgrep: sql-from-strings - the name of a column, which the code writes
    return sa.literal_column(f"to_json({name}) #>> '{{}}'").label(name)


def name_of(subject: Subject) -> str:
    """Return what can be shown of a subject."""
    return subject if isinstance(subject, str) else f"x'{subject.hex()}'"


def in_order(subjects: set[Subject]) -> list[Subject]:
    """Sort subjects as the databases do."""
    return sorted(subjects, key=_place)


def bound(subject: Subject) -> Any:
    """Return what a column is compared with to find a subject."""
    if isinstance(subject, Undecodable):
        return sa.cast(sa.literal(bytes(subject), sa.LargeBinary), sa.Text)
    return subject


def all_bound(subjects: Sequence[Subject]) -> list[Any]:
    """Return it for each."""
    return [bound(subject) for subject in subjects]


@contextmanager
def any_text(connection: Connection) -> Iterator[None]:
    """Read text that is no UTF-8 too; the driver of SQLite would give up."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "sqlite":
        yield
        return
    before, driver.text_factory = driver.text_factory, _decoded
    try:
        yield
    finally:
        driver.text_factory = before


def _of(kind: type[T], raw: object) -> T:
    if not isinstance(raw, kind) or isinstance(raw, bool):
        raise Unreadable
    return raw


def _place(subject: Subject) -> tuple[bool, bytes]:
    # SQLite has all bytes behind all text.
    if isinstance(subject, str):
        return False, subject.encode()
    return not isinstance(subject, Undecodable), subject


def _decoded(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Undecodable(raw)

"""Histories as they are stored: entries, whom they refer to, and where they are said to end."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from service_kit.audit.chain import ChainKey, Head, Person
from service_kit.audit.tables import Trail
from service_kit.database import Database, UtcDateTime

BATCH: Final = 500

# The only facts that are not text.
_TYPES: Final[Mapping[str, Any]] = {"at": UtcDateTime, "position": sa.Integer}


@dataclass(frozen=True)
class Actor:
    """What stands beside an entry: who acted, and the salt of the reference to them."""

    salt: bytes
    id: str
    on_behalf_of: str


@dataclass(frozen=True)
class Entry:
    """An entry as it is stored. `facts` are what its seal covers."""

    sequence: int
    facts: Mapping[str, object]
    version: int
    seal: bytes
    actor: Actor | None

    @property
    def position(self) -> int:
        """The place in its history that it claims."""
        position = self.facts["position"]
        assert isinstance(position, int)  # the column's type
        return position

    @property
    def at(self) -> datetime:
        """When it was written, as it claims."""
        at = self.facts["at"]
        assert isinstance(at, datetime)  # likewise
        return at

    @property
    def person(self) -> Person | None:
        """Who acted; nobody once that has been made anonymous."""
        if self.actor is None:
            return None
        return Person(str(self.facts["actor_role"]), self.actor.id, self.actor.on_behalf_of)


@dataclass(frozen=True)
class History:
    """One subject's entries in the order of their sequence, and the head that its row holds.

    `head` is None if there is no such row; in an export it is what is shown of it.
    """

    subject: str
    head: Head | None
    entries: tuple[Entry, ...] = ()
    is_exported: bool = False


class Histories:
    """Reads the histories of a trail."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail
        self._heads = sa.table(
            trail.heads,
            sa.column(trail.head_id),
            sa.column("audit_count"),
            sa.column("audit_head", sa.LargeBinary),
        )
        self._entries = sa.table(
            f"{trail.prefix}_entries",
            *(sa.column(name, _TYPES.get(name)) for name in trail.facts),
            *map(sa.column, ("sequence", "seal_version", "seal")),
        )
        self._actors = sa.table(
            f"{trail.prefix}_actors",
            *map(sa.column, (trail.subject, "position", "salt", "actor_id", "on_behalf_of")),
        )
        self._anonymisations = sa.table(
            f"{trail.prefix}_anonymisations",
            sa.column("at", UtcDateTime),
            sa.column("acted_before", UtcDateTime),
            sa.column("seal"),
        )

    def pages(self, *, batch: int = BATCH) -> Iterator[list[History]]:
        """Read all histories, also what is left of any, so many at one moment."""
        last = ""
        while page := self._database.read_at_one_moment(
            partial(self._page, last=last, batch=batch)
        ):
            yield page
            last = page[-1].subject

    def of(self, subject: str) -> History:
        """Read one."""
        [history] = self.some([subject])
        return history

    def some(self, subjects: Sequence[str]) -> list[History]:
        """Read some, at one moment."""
        return self._database.read_at_one_moment(lambda c: self.read(c, subjects))

    def anonymised_before(self, key: ChainKey) -> tuple[datetime | None, int]:
        """Return since when entries say who acted, and how many notes of that are forged."""
        rows = self._database.read(lambda c: c.execute(sa.select(self._anonymisations)).all())
        genuine = [
            row.acted_before
            for row in rows
            if bytes(row.seal) == key.anonymisation(row.acted_before, row.at)
        ]
        return max(genuine, default=None), len(rows) - len(genuine)

    def _page(self, connection: Connection, last: str, batch: int) -> list[History]:
        # Whatever names a subject: of a history that was removed something may be left.
        columns = (
            self._heads.c[self._trail.head_id],
            self._entries.c[self._trail.subject],
            self._actors.c[self._trail.subject],
        )
        subjects: set[str] = set()
        for column in columns:
            query = sa.select(column).distinct().where(column > last).order_by(column).limit(batch)
            subjects |= set(connection.execute(query).scalars())
        return self.read(connection, sorted(subjects)[:batch])

    def read(self, connection: Connection, subjects: Sequence[str]) -> list[History]:
        """Read some, within one moment of the caller's."""
        head_id = self._heads.c[self._trail.head_id]
        ends = {
            row[0]: Head(row.audit_count, bytes(row.audit_head))
            for row in connection.execute(sa.select(self._heads).where(head_id.in_(subjects)))
        }
        actors = {
            (row[0], row.position): Actor(bytes(row.salt), row.actor_id, row.on_behalf_of)
            for row in connection.execute(self._of(self._actors, subjects))
        }
        entries: defaultdict[str, list[Entry]] = defaultdict(list)
        query = self._of(self._entries, subjects).order_by(self._entries.c.sequence)
        for row in connection.execute(query):
            subject = row._mapping[self._trail.subject]
            entries[subject].append(self._entry(row, actors.get((subject, row.position))))
        return [History(s, ends.get(s), tuple(entries[s])) for s in subjects]

    def _of(self, table: sa.TableClause, subjects: Sequence[str]) -> sa.Select[Any]:
        return sa.select(table).where(table.c[self._trail.subject].in_(subjects))

    def _entry(self, row: Row[Any], actor: Actor | None) -> Entry:
        return Entry(
            sequence=row.sequence,
            facts={name: row._mapping[name] for name in self._trail.facts},
            version=row.seal_version,
            seal=bytes(row.seal),
            actor=actor,
        )

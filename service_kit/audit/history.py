"""Histories as they are stored: entries, whom they refer to, and where they are said to end."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from service_kit.audit import raw
from service_kit.audit.chain import ChainKey, Head, Person
from service_kit.audit.tables import Trail
from service_kit.database import Database

BATCH: Final = 500

# Of an entry with a value of a wrong type, which no seal can cover.
_NO_VERSION: Final = 0


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
class Note:
    """That who acted before a moment was forgotten, and when, as somebody has noted it."""

    at: datetime
    acted_before: datetime
    seal: bytes

    def is_genuine(self, key: ChainKey) -> bool:
        """Say whether it was noted by one who has the key."""
        return self.seal == key.anonymisation(self.acted_before, self.at)


def anonymised_before(notes: Sequence[Note], key: ChainKey) -> tuple[datetime | None, int]:
    """Return since when entries say who acted, and how many of the notes are forged."""
    genuine = [note.acted_before for note in notes if note.is_genuine(key)]
    return max(genuine, default=None), len(notes) - len(genuine)


@dataclass(frozen=True)
class History:
    """One subject's entries in the order of their sequence, and the head that its row holds.

    `head` is None if there is no such row; in an export it is what is shown of it.
    """

    subject: str
    head: Head | None
    entries: tuple[Entry, ...] = ()
    is_exported: bool = False


@dataclass(frozen=True)
class Page:
    """Some histories, and what was noted, at one moment."""

    histories: Sequence[History]
    notes: Sequence[Note]


class Histories:
    """Reads the histories of a trail, as far as what is stored can be read at all."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail
        moment = partial(raw.moment_column, is_sqlite=database.is_sqlite)
        # Without types: nothing here may give up at a value.
        self._heads = _table(trail.heads, trail.head_id, "audit_count", "audit_head")
        self._entries = _table(f"{trail.prefix}_entries", "sequence", *trail.facts)
        beside = (trail.subject, "position", "salt", "actor_id", "on_behalf_of")
        self._actors = _table(f"{trail.prefix}_actors", *beside)
        notes = _table(f"{trail.prefix}_anonymisations", "seal")
        self._read_entries: sa.Select[Any] = sa.select(
            *(moment(name) if name == "at" else sa.column(name) for name in trail.facts),
            *map(sa.column, ("sequence", "seal_version", "seal")),
        ).select_from(self._entries)
        self._read_actors: sa.Select[Any] = sa.select(self._actors)
        self._read_notes: sa.Select[Any] = sa.select(
            moment("at"), moment("acted_before"), notes.c.seal
        ).select_from(notes)

    def pages(self, *, batch: int = BATCH) -> Iterator[Page]:
        """Read all histories, also what is left of any, so many at one moment.

        There is a page even if there is no history.
        """
        last: raw.Subject | None = None
        while True:
            page, last = self._database.read_at_one_moment(
                partial(self._page, last=last, batch=batch)
            )
            yield page
            if last is None:
                return

    def of(self, subject: str) -> History:
        """Read one."""
        [history] = self.some([subject])
        return history

    def some(self, subjects: Sequence[str]) -> list[History]:
        """Read some, at one moment."""
        return self._database.read_at_one_moment(lambda c: self.read(c, subjects))

    def page_of(self, subject: str) -> Page:
        """Read one, if there is anything of it, with what was noted."""

        def work(connection: Connection) -> Page:
            found = self.read(connection, [subject])
            return Page([h for h in found if h.head or h.entries], self.notes(connection))

        return self._database.read_at_one_moment(work)

    def _page(
        self, connection: Connection, last: raw.Subject | None, batch: int
    ) -> tuple[Page, raw.Subject | None]:
        subjects = self._subjects_after(connection, last, batch)
        page = Page(self.read(connection, subjects), self.notes(connection))
        return page, subjects[-1] if subjects else None

    def _subjects_after(
        self, connection: Connection, last: raw.Subject | None, batch: int
    ) -> list[raw.Subject]:
        # Whatever names a subject: of a history that was removed something may be left.
        columns = (
            self._heads.c[self._trail.head_id],
            self._entries.c[self._trail.subject],
            self._actors.c[self._trail.subject],
        )
        subjects: set[raw.Subject] = set()
        for column in columns:
            # The first page has no lower bound: what somebody has added may have any name.
            after = column.is_not(None) if last is None else column > raw.bound(last)
            query = sa.select(column).distinct().where(after).order_by(column).limit(batch)
            with raw.any_text(connection):
                subjects.update(connection.execute(query).scalars())
        return raw.in_order(subjects)[:batch]

    def notes(self, connection: Connection) -> list[Note]:
        """Read what was noted, within one moment of the caller's."""
        with raw.any_text(connection):
            rows = connection.execute(self._read_notes).all()
        return [
            Note(
                at=raw.either(raw.moment, row.at, raw.NO_MOMENT),
                acted_before=raw.either(raw.moment, row.acted_before, raw.NO_MOMENT),
                seal=raw.either(raw.binary, row.seal, b""),
            )
            for row in rows
        ]

    def read(self, connection: Connection, subjects: Sequence[raw.Subject]) -> list[History]:
        """Read some, within one moment of the caller's."""
        bound = raw.all_bound(subjects)
        head_id = self._heads.c[self._trail.head_id]
        subject: sa.ColumnClause[Any] = sa.column(self._trail.subject)
        of_heads: sa.Select[Any] = sa.select(self._heads).where(head_id.in_(bound))
        of_actors = self._read_actors.where(subject.in_(bound))
        of_entries = self._read_entries.where(subject.in_(bound)).order_by(sa.column("sequence"))
        with raw.any_text(connection):
            heads = connection.execute(of_heads).all()
            actors = connection.execute(of_actors).all()
            rows = connection.execute(of_entries).all()
        ends = {row[0]: _head(row) for row in heads}
        beside = {(row[0], row.position): _actor(row) for row in actors}
        entries: defaultdict[raw.Subject, list[Entry]] = defaultdict(list)
        for row in rows:
            key = row._mapping[self._trail.subject]
            entries[key].append(self._entry(row, beside.get((key, row.position))))
        return [History(raw.name_of(s), ends.get(s), tuple(entries[s])) for s in subjects]

    def _entry(self, row: Row[Any], actor: Actor | None) -> Entry:
        try:
            facts = {name: _fact(name, row._mapping[name]) for name in self._trail.facts}
            version, seal = raw.number(row.seal_version), raw.binary(row.seal)
        except raw.Unreadable:
            facts = {name: _fact_or_none(name, row._mapping[name]) for name in self._trail.facts}
            version, seal = _NO_VERSION, raw.either(raw.binary, row.seal, b"")
        return Entry(sequence=row.sequence, facts=facts, version=version, seal=seal, actor=actor)


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *map(sa.column, columns))


def _head(row: Row[Any]) -> Head:
    return Head(
        count=raw.either(raw.number, row.audit_count, 0),
        seal=raw.either(raw.binary, row.audit_head, b""),
    )


def _actor(row: Row[Any]) -> Actor:
    try:
        return Actor(
            salt=raw.binary(row.salt),
            id=raw.text(row.actor_id),
            on_behalf_of=raw.text(row.on_behalf_of),
        )
    except raw.Unreadable:
        # Not the same as none: no entry refers to it.
        return Actor(salt=b"", id="", on_behalf_of="")


def _fact(name: str, value: object) -> object:
    if name == "at":
        return raw.moment(value)
    if name == "position":
        # The place where the entry stands is sealed, not the one that it claims: this is none.
        return raw.either(raw.number, value, 0)
    return raw.text(value)


def _fact_or_none(name: str, value: object) -> object:
    try:
        return _fact(name, value)
    except raw.Unreadable:
        return raw.NO_MOMENT if name == "at" else repr(value)

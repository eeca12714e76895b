"""Writing entries: sealed, their actors beside them, and the head moved on; together or not."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service_kit.audit.chain import SALT_BYTES, VERSION, ChainKey, Head, Person
from service_kit.audit.tables import Trail

_PREFIX: Final = "new_"


@dataclass(frozen=True)
class Link:
    """A sealed entry as its rows, and the head of its history with it."""

    entry: Mapping[str, object]
    actor: Mapping[str, object]
    head: Head


def link(
    trail: Trail,
    key: ChainKey,
    *,
    head: Head,
    subject: str,
    by: Person,
    told: Mapping[str, object],
) -> Link:
    """Seal what an entry tells after a head."""
    salt = secrets.token_bytes(SALT_BYTES)
    place = {trail.subject: subject, "position": head.count + 1}
    entry = {**place, "actor_role": by.role, "actor_reference": key.reference(by, salt), **told}
    seal = key.seal({name: entry[name] for name in trail.facts}, after=head.seal)
    return Link(
        entry={**entry, "seal_version": VERSION, "seal": seal},
        actor={**place, "salt": salt, "actor_id": by.id, "on_behalf_of": by.on_behalf_of},
        head=key.head(subject, head.count + 1, seal),
    )


class Insertion:
    """The statements that write a link; on PostgreSQL they are one, and one round trip.

    With `heads` the head is moved on as well, in the row that was locked.
    """

    def __init__(self, trail: Trail, metadata: sa.MetaData, *, heads: bool) -> None:
        tables = metadata.tables
        self._entry = _insert(tables[f"{trail.prefix}_entries"], leave_out=("sequence",))
        self._others: list[tuple[str, Any]] = [
            ("actor", _insert(tables[f"{trail.prefix}_actors"])),
        ]
        if heads:
            self._others.append(("head", _move(tables[trail.heads], trail)))
        self._together = self._entry.add_cte(
            *(statement.cte(name) for name, statement in self._others)
        )

    def write(self, connection: Connection, link: Link) -> None:
        """Write the entry. Never a transaction's first write: the feed relies on it."""
        values = {**link.entry, **link.actor, "count": link.head.count, "head": link.head.seal}
        parameters = {f"{_PREFIX}{name}": value for name, value in values.items()}
        if connection.dialect.name == "postgresql":
            connection.execute(self._together, parameters)
            return
        for _, statement in self._others:
            connection.execute(statement, parameters)
        connection.execute(self._entry, parameters)


def _insert(table: sa.Table, *, leave_out: tuple[str, ...] = ()) -> sa.Insert:
    columns = [column for column in table.c if column.name not in leave_out]
    values = {c.name: sa.bindparam(f"{_PREFIX}{c.name}", type_=c.type) for c in columns}
    return sa.insert(table).inline().values(values)


def _move(table: sa.Table, trail: Trail) -> sa.Update:
    subject: sa.BindParameter[str] = sa.bindparam(f"{_PREFIX}{trail.subject}")
    return (
        sa.update(table)
        .where(table.c[trail.head_id] == subject)
        .values(
            audit_count=sa.bindparam(f"{_PREFIX}count"),
            audit_head=sa.bindparam(f"{_PREFIX}head", type_=sa.LargeBinary),
        )
    )

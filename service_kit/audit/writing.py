"""Writing entries: sealed, their actors beside them, and the head moved on; together or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service_kit.audit.chain import SALT_BYTES, VERSION, ChainKey, Head, Person
from service_kit.audit.tables import Trail
from service_kit.randomness import random_bytes
from service_kit.statements import NEW, Statement, insert_all, new


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
    salt = random_bytes(SALT_BYTES)
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
        entry = insert_all(tables[f"{trail.prefix}_entries"], but=("sequence",))
        others: list[tuple[str, Any]] = [("actor", insert_all(tables[f"{trail.prefix}_actors"]))]
        if heads:
            others.append(("head", _move(tables[trail.heads], trail)))
        self._together = Statement(
            entry.add_cte(*(statement.cte(name) for name, statement in others))
        )
        self._apart = [*(Statement(statement) for _, statement in others), Statement(entry)]

    def write(self, connection: Connection, link: Link) -> None:
        """Write the entry. Never a transaction's first write: the feed relies on it."""
        values = {**link.entry, **link.actor, "count": link.head.count, "head": link.head.seal}
        is_postgres = connection.dialect.name == "postgresql"
        for statement in [self._together] if is_postgres else self._apart:
            statement.change(connection, new(values))


def _move(table: sa.Table, trail: Trail) -> sa.Update:
    subject: sa.BindParameter[str] = sa.bindparam(f"{NEW}{trail.subject}")
    return (
        sa.update(table)
        .where(table.c[trail.head_id] == subject)
        .values(
            audit_count=sa.bindparam(f"{NEW}count"),
            audit_head=sa.bindparam(f"{NEW}head", type_=sa.LargeBinary),
        )
    )

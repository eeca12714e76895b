"""Writing entries: sealed, their actors beside them, and the head moved on; together or not."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from service_kit.audit.chain import SALT_BYTES, VERSION, ChainKey, Head, Person
from service_kit.audit.tables import Trail
from service_kit.randomness import random_bytes
from service_kit.statements import NEW, Draft, Session, Statement, insert_all, new, parameter


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

    With `heads` the head is moved on as well, in the row that was locked. Not in a draft, which
    finds out by moving it whether the history still ends there.
    """

    def __init__(self, trail: Trail, metadata: sa.MetaData, *, heads: bool) -> None:
        tables = metadata.tables
        entry = insert_all(tables[f"{trail.prefix}_entries"], but=("sequence",))
        actor = insert_all(tables[f"{trail.prefix}_actors"])
        others = [actor, *([_move(tables[trail.heads], trail)] if heads else [])]
        self._together = Statement(
            entry.add_cte(*(other.cte(f"other{place}") for place, other in enumerate(others)))
        )
        self._apart = [Statement(statement) for statement in (*others, entry)]
        self._drafted = self._apart[:1] + self._apart[-1:]

    def write(self, session: Session, link: Link) -> None:
        """Write the entry. Never a transaction's first write: the feed relies on it."""
        head = {"audit_count": link.head.count, "audit_head": link.head.seal}
        values = new({**link.entry, **link.actor, **head})
        if isinstance(session, Draft):
            statements = self._drafted
        elif session.dialect.name == "postgresql":
            statements = [self._together]
        else:
            statements = self._apart
        for statement in statements:
            statement.change(session, values)


def _move(table: sa.Table, trail: Trail) -> sa.Update:
    subject: sa.BindParameter[str] = sa.bindparam(f"{NEW}{trail.subject}")
    columns = ("audit_count", "audit_head")
    return (
        sa.update(table)
        .where(table.c[trail.head_id] == subject)
        .values({name: parameter(table.c[name]) for name in columns})
    )

"""What the migrations do that begin the chain: seal the entries that are there, in their order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection, Row

from service_kit.audit.chain import ChainKey, Head, Person
from service_kit.audit.mark import mark_column, write_mark
from service_kit.audit.tables import (
    Trail,
    actors_table,
    anonymisations_table,
    chain_columns,
    head_columns,
)
from service_kit.audit.writing import Link, link
from service_kit.database import UtcDateTime
from service_kit.migrations import secret_key

_PAGE: Final = 1000
_NAMES: Final = {"pk": "pk_%(table_name)s"}


def begin_chain(trail: Trail) -> None:
    """Add the columns and tables, and chain every history that there is.

    Entries lose the columns that said who acted; a new table beside them has these. The database
    is marked as sealed with the secret, which is needed for that even if there is no history.
    """
    key = ChainKey.of(trail.service, secret_key())
    _mark(key)
    entries = f"{trail.prefix}_entries"
    beside = sa.MetaData(naming_convention=_NAMES)
    actors = actors_table(beside, f"{trail.prefix}_actors", subject=trail.subject)
    anonymisations_table(beside, f"{trail.prefix}_anonymisations")
    beside.create_all(op.get_bind())
    with _without_triggers(trail.heads), _without_triggers(entries):
        for table, columns in ((trail.heads, head_columns()), (entries, chain_columns())):
            for column in columns:
                column.nullable = True
                op.add_column(table, column)
        _Histories(op.get_bind(), trail, key, actors).chain()
        op.drop_index(f"ix_{entries}_{trail.subject}_sequence", entries)
        with op.batch_alter_table(trail.heads) as batch:
            for column in head_columns():
                batch.alter_column(column.name, existing_type=column.type, nullable=False)
        options = {"sqlite_autoincrement": True}
        with op.batch_alter_table(entries, table_kwargs=options) as batch:
            for column in chain_columns():
                batch.alter_column(column.name, existing_type=column.type, nullable=False)
            batch.drop_column("actor_id")
            batch.drop_column("on_behalf_of")
    op.create_index(f"uq_{entries}_place", entries, [trail.subject, "position"], unique=True)


@contextmanager
def _without_triggers(table: str) -> Iterator[None]:
    """Let the migration do what is refused to everybody; SQLite's go with a table made anew."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        op.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        return
    query = sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :t")
    triggers = op.get_bind().execute(query, {"t": table}).all()
    for trigger in triggers:
        op.execute(f"DROP TRIGGER {trigger.name}")
    yield
    for trigger in triggers:
        op.get_bind().exec_driver_sql(trigger.sql)


def _mark(key: ChainKey) -> None:
    column = mark_column()
    column.nullable = True
    op.add_column("instance", column)
    write_mark(op.get_bind(), key)
    with op.batch_alter_table("instance") as batch:
        batch.alter_column(column.name, existing_type=column.type, nullable=False)


class _Histories:
    """The histories that there are, chained a page of subjects at a time."""

    def __init__(
        self, connection: Connection, trail: Trail, key: ChainKey, actors: sa.Table
    ) -> None:
        self._connection = connection
        self._trail = trail
        self._key = key
        self._actors = actors
        self._heads = sa.table(
            trail.heads,
            sa.column(trail.head_id, sa.String),
            sa.column("audit_count", sa.Integer),
            sa.column("audit_head", sa.LargeBinary),
        )
        names = ("sequence", trail.subject, "actor_role", "actor_id", "on_behalf_of", *trail.told)
        self._chained = [column.name for column in chain_columns()]
        self._entries = sa.table(
            f"{trail.prefix}_entries",
            *(sa.column(name, UtcDateTime if name == "at" else None) for name in names),
            *map(sa.column, self._chained),
        )

    def chain(self) -> None:
        last = ""
        while subjects := self._subjects_after(last):
            ends = {subject: self._key.beginning(subject) for subject in subjects}
            links: list[tuple[int, Link]] = []
            for entry in self._entries_of(subjects):
                subject = entry._mapping[self._trail.subject]
                sealed = self._link(ends[subject], subject, entry)
                links.append((entry.sequence, sealed))
                ends[subject] = sealed.head
            self._write(ends, links)
            last = subjects[-1]

    def _subjects_after(self, last: str) -> Sequence[str]:
        head_id = self._heads.c[self._trail.head_id]
        query = sa.select(head_id).where(head_id > last).order_by(head_id).limit(_PAGE)
        return self._connection.execute(query).scalars().all()

    def _entries_of(self, subjects: Sequence[str]) -> Sequence[Row[Any]]:
        columns = [column for column in self._entries.c if column.name not in self._chained]
        subject = self._entries.c[self._trail.subject]
        query = sa.select(*columns).where(subject.in_(subjects)).order_by(self._entries.c.sequence)
        return self._connection.execute(query).all()

    def _link(self, head: Head, subject: str, entry: Row[Any]) -> Link:
        return link(
            self._trail,
            self._key,
            head=head,
            subject=subject,
            by=Person(entry.actor_role, entry.actor_id, entry.on_behalf_of),
            told={name: entry._mapping[name] for name in self._trail.told},
        )

    def _write(self, ends: dict[str, Head], links: Sequence[tuple[int, Link]]) -> None:
        if links:
            self._connection.execute(
                sa.update(self._entries)
                .where(self._entries.c.sequence == sa.bindparam("number"))
                .values(
                    # What a dropped column held is kept in PostgreSQL's rows as they are.
                    actor_id="",
                    on_behalf_of="",
                    **{name: sa.bindparam(f"new_{name}") for name in self._chained},
                ),
                [
                    {"number": number, **{f"new_{n}": sealed.entry[n] for n in self._chained}}
                    for number, sealed in links
                ],
            )
            self._connection.execute(
                sa.insert(self._actors), [dict(sealed.actor) for _, sealed in links]
            )
        self._connection.execute(
            sa.update(self._heads)
            .where(self._heads.c[self._trail.head_id] == sa.bindparam("name"))
            .values(audit_count=sa.bindparam("count"), audit_head=sa.bindparam("seal")),
            [{"name": name, "count": end.count, "seal": end.seal} for name, end in ends.items()],
        )

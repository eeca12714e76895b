"""The columns and tables that make a history tell of changes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service_kit.audit.chain import SALT_BYTES, SEAL_BYTES
from service_kit.database import UtcDateTime, sorted_text


def head_columns() -> Iterator[sa.Column[Any]]:
    """Make the columns of the row that is locked for every entry: where its history ends."""
    yield sa.Column("audit_count", sa.Integer, nullable=False)
    yield sa.Column("audit_head", sa.LargeBinary(SEAL_BYTES), nullable=False)


def chain_columns() -> Iterator[sa.Column[Any]]:
    """Make the columns of an entry that say where it stands, whom it refers to, and its seal."""
    yield sa.Column("position", sa.Integer, nullable=False)
    yield sa.Column("actor_reference", sa.String(64), nullable=False)
    yield sa.Column("seal_version", sa.SmallInteger, nullable=False)
    yield sa.Column("seal", sa.LargeBinary(SEAL_BYTES), nullable=False)


def actors_table(metadata: sa.MetaData, name: str, *, subject: str) -> sa.Table:
    """Make the table of whom the entries refer to. All that says who they are is in it."""
    return sa.Table(
        name,
        metadata,
        # No foreign key: the entry's seal vouches for the reference, and each would be looked up.
        sa.Column(subject, sorted_text(64), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("salt", sa.LargeBinary(SALT_BYTES), nullable=False),
        sa.Column("actor_id", sa.String(256), nullable=False),
        sa.Column("on_behalf_of", sa.String(256), nullable=False),
        # One page to write for each call, not two.
        sqlite_with_rowid=False,
    )


def anonymisations_table(metadata: sa.MetaData, name: str) -> sa.Table:
    """Make the table of when persons were made anonymous, and in how old entries."""
    return sa.Table(
        name,
        metadata,
        sa.Column("at", UtcDateTime, primary_key=True),
        sa.Column("acted_before", UtcDateTime, nullable=False),
        sa.Column("seal", sa.LargeBinary(SEAL_BYTES), nullable=False),
    )


@dataclass(frozen=True)
class Trail:
    """The histories of one service: its tables by their names, and what a seal covers.

    `heads` is the table of the rows that are locked for every entry, with the key `head_id`;
    `prefix` begins the names of the other three; `subject` is the column that says, in those,
    whose history it is; `told` are the columns of an entry that are a service's own.
    """

    service: str
    heads: str
    head_id: str
    prefix: str
    subject: str
    told: tuple[str, ...]

    @property
    def facts(self) -> tuple[str, ...]:
        """The columns that a seal covers."""
        return (self.subject, "position", "actor_role", "actor_reference", *self.told)

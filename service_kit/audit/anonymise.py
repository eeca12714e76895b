"""Forgetting who acted, in entries that are old enough. No entry is touched."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service_kit.audit.chain import ChainKey
from service_kit.audit.tables import Trail
from service_kit.database import Database, UtcDateTime

_PAGE: Final = 1000


def anonymise(
    database: Database, trail: Trail, key: ChainKey, *, before: datetime, now: datetime
) -> int:
    """Delete who acted in all entries from before a moment. Say of how many.

    That it was done is noted first, and sealed: whoever deletes them otherwise is found out.
    May be repeated, also after it was interrupted.
    """
    notes = sa.table(
        f"{trail.prefix}_anonymisations",
        sa.column("at", UtcDateTime),
        sa.column("acted_before", UtcDateTime),
        sa.column("seal", sa.LargeBinary),
    )
    note = {"at": now, "acted_before": before, "seal": key.anonymisation(before, now)}
    # nosemgrep: sql-from-strings - the name of a trail's table, which the code writes
    database.transact(lambda connection: connection.execute(sa.insert(notes), note))
    pages = _Pages(trail)
    forgotten, last = 0, 0
    while page := database.transact(partial(pages.forget, last=last, before=before)):
        forgotten += page.forgotten
        last = page.last
    return forgotten


@dataclass(frozen=True)
class _Page:
    """Entries up to a sequence, and how many of them said who acted and do no more."""

    last: int
    forgotten: int


class _Pages:
    def __init__(self, trail: Trail) -> None:
        subject = trail.subject
        self._entries = sa.table(
            f"{trail.prefix}_entries",
            sa.column("sequence", sa.Integer),
            sa.column("at", UtcDateTime),
            *map(sa.column, (subject, "position")),
        )
        actors = sa.table(f"{trail.prefix}_actors", *map(sa.column, (subject, "position")))
        self._delete = sa.delete(actors).where(
            actors.c[subject] == sa.bindparam("name"), actors.c.position == sa.bindparam("place")
        )
        self._subject = subject

    def forget(self, connection: Connection, last: int, before: datetime) -> _Page | None:
        """Have the next entries that are old say no more who acted. None: there are no more.

        A page is of entries, whether they say so or not: however many say it no more, no
        statement has more to look at.
        """
        sequence = self._entries.c.sequence
        query = sa.select(self._entries).where(sequence > last).order_by(sequence).limit(_PAGE)
        page = connection.execute(query).all()
        if not page:
            return None
        old = [
            {"name": row._mapping[self._subject], "place": row.position}
            for row in page
            if row.at < before
        ]
        forgotten = connection.execute(self._delete, old).rowcount if old else 0
        return _Page(last=page[-1].sequence, forgotten=forgotten)

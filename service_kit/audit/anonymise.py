"""Forgetting who acted, in entries that are old enough. No entry is touched."""

from datetime import datetime
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

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
    database.transact(lambda connection: connection.execute(sa.insert(notes), note))
    pages = _Pages(trail)
    forgotten = last = 0
    while page := database.transact(partial(pages.forget, last=last, before=before)):
        forgotten += sum(row.at < before for row in page)
        last = page[-1].sequence
    return forgotten


class _Pages:
    def __init__(self, trail: Trail) -> None:
        place = (trail.subject, "position")
        entries = sa.table(
            f"{trail.prefix}_entries",
            sa.column("sequence", sa.Integer),
            sa.column("at", UtcDateTime),
            *map(sa.column, place),
        )
        actors = sa.table(f"{trail.prefix}_actors", *map(sa.column, place))
        subject = trail.subject
        same_place = sa.and_(
            actors.c[subject] == entries.c[subject], actors.c.position == entries.c.position
        )
        self._sequence = entries.c.sequence
        self._query = sa.select(entries).join_from(entries, actors, same_place)
        self._delete = sa.delete(actors).where(
            actors.c[subject] == sa.bindparam("name"), actors.c.position == sa.bindparam("place")
        )
        self._subject = subject

    def forget(self, connection: Connection, last: int, before: datetime) -> list[Row[Any]]:
        """Look at the next entries that say who acted, and have those that are old say it no more.

        Returns all of them.
        """
        query = self._query.where(self._sequence > last).order_by(self._sequence).limit(_PAGE)
        page = list(connection.execute(query))
        old = [
            {"name": row._mapping[self._subject], "place": row.position}
            for row in page
            if row.at < before
        ]
        if old:
            connection.execute(self._delete, old)
        return page

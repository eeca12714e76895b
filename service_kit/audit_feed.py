"""Reading a table by its ascending sequence without ever skipping a row.

PostgreSQL hands out a sequence number before the row that carries it is committed, so a row
can become visible after one with a greater number. A reader that goes on from the greatest
number it saw would miss it. The number of a transaction that rolled back stays missing for
good, so waiting for every number is no way out either.

A gap is safe to pass once every transaction that was running when the gap was seen is over:
its number was handed out before the greater one became visible, by a transaction that already
had its transaction id (an audit row is never a transaction's first write).

SQLite has one writer at a time: numbers become visible in their order.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from service_kit.database import Database

_WAIT_SECONDS_MAX: Final = 1.0
_POLL_SECONDS: Final = 0.005

# Every transaction that writes holds the lock of its own id until it is over and visible. A
# snapshot would not do: it ends with the last id that is over, and younger ones run beyond it.
_RUNNING: Final = sa.text(
    "SELECT lock.transactionid::text FROM pg_locks AS lock"
    " JOIN pg_stat_activity AS session USING (pid)"
    " WHERE lock.locktype = 'transactionid' AND lock.mode = 'ExclusiveLock'"
    " AND session.datname = current_database()"
)


def read_in_order(
    database: Database,
    query: sa.Select[Any],
    sequence: sa.Column[int],
    *,
    after: int,
    limit: int,
) -> Sequence[sa.Row[Any]]:
    """Return the next rows of `query` after a sequence number, at most `limit`, in order.

    The query must not filter. Stops before a gap that may still be filled after about one
    second: the reader asks again.
    """
    page = query.where(sequence > after).order_by(sequence).limit(limit)
    rows = database.read(lambda connection: connection.execute(page).all())
    if database.is_sqlite or not _gap_at(rows, sequence, after):
        return rows
    last = _number(rows[-1], sequence)
    settled = _wait_for_running_transactions(database)
    # Everything up to `last` is decided now; what came behind it meanwhile is not.
    again = page.where(sequence <= last)
    rows = database.read(lambda connection: connection.execute(again).all())
    return rows if settled else rows[: _contiguous(rows, sequence, after)]


def running_transactions(database: Database) -> set[str]:
    """Name the transactions that write. None on SQLite, whose numbers come in their order."""
    if database.is_sqlite:
        return set()
    return set(database.read(lambda connection: connection.execute(_RUNNING).scalars().all()))


def _wait_for_running_transactions(database: Database) -> bool:
    waited_for = running_transactions(database)
    give_up_at = time.monotonic() + _WAIT_SECONDS_MAX
    while waited_for:
        if time.monotonic() > give_up_at:
            return False
        time.sleep(_POLL_SECONDS)
        waited_for &= running_transactions(database)
    return True


def _gap_at(rows: Sequence[sa.Row[Any]], sequence: sa.Column[int], after: int) -> bool:
    return _contiguous(rows, sequence, after) < len(rows)


def _contiguous(rows: Sequence[sa.Row[Any]], sequence: sa.Column[int], after: int) -> int:
    for position, row in enumerate(rows):
        if _number(row, sequence) != after + position + 1:
            return position
    return len(rows)


def _number(row: sa.Row[Any], sequence: sa.Column[int]) -> int:
    return int(row._mapping[sequence])

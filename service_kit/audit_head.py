"""How far a history is whole, found out once for everybody who follows it.

One small query at a time tells all followers of a process whether there is more; each then
reads its own entries up to the head, where nothing is missing and plain queries will do.
"""

from typing import Final

import sqlalchemy as sa

from service_kit.audit_feed import read_in_order, running_transactions
from service_kit.database import Database
from service_kit.streams import Streams

_PAGE: Final = 1000


class AuditHead:
    """Moves on with a history while there are streams, and wakes them.

    Up to `sequence` every number is visible or never will be. It begins at the newest number
    there is, once the transactions are over that may still fill a gap before it.
    """

    def __init__(self, database: Database, column: sa.Column[int], streams: Streams) -> None:
        self.sequence = 0
        self._database = database
        self._column = column
        self._streams = streams
        self._query = sa.select(column)
        self._newest_at_first: int | None = None
        self._waited_for: set[str] = set()
        self._has_begun = False

    def __call__(self) -> bool:
        """Look once. Says whether there may be more at once; ends the streams if it fails."""
        if not self._streams.any_is_open:
            return False
        try:
            return self._go_on() if self._has_begun else self._begin()
        except Exception as error:
            self._streams.end(error)
            raise

    def _begin(self) -> bool:
        if self._newest_at_first is None:
            # In this order: who took a smaller number before this query runs in the next.
            newest = self._database.read(
                lambda connection: connection.execute(sa.select(sa.func.max(self._column))).scalar()
            )
            self._waited_for = running_transactions(self._database)
            self._newest_at_first = newest or 0
        elif self._waited_for:
            self._waited_for &= running_transactions(self._database)
        if self._waited_for:
            return False
        self._has_begun = True
        self._move_to(self._newest_at_first)
        return True

    def _go_on(self) -> bool:
        rows = read_in_order(
            self._database, self._query, self._column, after=self.sequence, limit=_PAGE
        )
        if rows:
            self._move_to(int(rows[-1][0]))
        return len(rows) == _PAGE

    def _move_to(self, sequence: int) -> None:
        self.sequence = sequence
        self._streams.wake()

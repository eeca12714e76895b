"""What a database holds of one subject besides its history, for an export."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service_kit.audit.chain import ChainKey
from service_kit.audit.file import Part
from service_kit.audit.history import Histories, anonymised_before
from service_kit.audit.mark import require_mark
from service_kit.audit.tables import Trail
from service_kit.database import Database, UtcDateTime

_MOMENT: Final = "_at"


@dataclass(frozen=True)
class Rows:
    """Rows of a table: what each is, which column names the subject, and what is told.

    They are sorted by the first column that is told. Columns that end in `_at` hold moments.
    """

    what: str
    table: str
    subject: str
    told: tuple[str, ...]

    def read(self, connection: Connection, subject: str) -> Iterator[tuple[str, dict[str, object]]]:
        """Read those of a subject."""
        types = {n: UtcDateTime if n.endswith(_MOMENT) else None for n in self.told}
        columns = [sa.column(name, type_) for name, type_ in types.items()]
        names: sa.ColumnClause[str] = sa.column(self.subject, sa.String)
        table = sa.table(self.table, *columns, *([] if self.subject in types else [names]))
        query = (
            sa.select(*(table.c[name] for name in self.told))
            .where(table.c[self.subject] == subject)
            .order_by(table.c[self.told[0]])
        )
        for row in connection.execute(query):
            yield self.what, dict(row._mapping)


def read_part(
    database: Database, trail: Trail, key: ChainKey, subject: str, rows: Sequence[Rows]
) -> Part:
    """Read all that a service knows of a subject, at one moment. It may be nothing.

    Raises SecretUnusable if the key is not the one that the database is sealed with.
    """
    require_mark(database, key, service=trail.service)
    histories = Histories(database, trail)

    def work(connection: Connection) -> Part:
        [history] = histories.read(connection, [subject])
        found = [row for each in rows for row in each.read(connection, subject)]
        shown = replace(history, head=history.head and key.shown(history.head), is_exported=True)
        limit, _ = anonymised_before(histories.notes(connection), key)
        return Part(trail.service, shown, limit, found)

    return database.read_at_one_moment(work)

"""The gateway's ledger: the simulated gateway's own file, read and never written."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from order_service.verification.evidence import Charge, GivenBack

T = TypeVar("T")

_CHARGES: Final = (
    "SELECT key, reference, order_id, currency_code, amount_minor, decline_code FROM charges"
    " WHERE order_id IN (SELECT value FROM json_each(?))"
)
_GIVEN_BACK: Final = (
    "SELECT r.key, r.reference, r.charge_reference, c.order_id, r.currency_code, r.amount_minor,"
    " r.decline_code FROM refunds AS r JOIN charges AS c ON c.reference = r.charge_reference"
    " WHERE c.order_id IN (SELECT value FROM json_each(?))"
)
_ORDER_IDS: Final = (
    "SELECT DISTINCT order_id FROM charges WHERE order_id > ? ORDER BY order_id LIMIT ?"
)


class LedgerUnreadable(Exception):
    """The file is missing, or is no ledger."""

    def __init__(self, *, path: Path, problem: str) -> None:
        super().__init__(f"the ledger {path} cannot be read: {problem}")
        self.path = path


class Ledger:
    """The ledger's file. All methods raise LedgerUnreadable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, order_ids: Sequence[str]) -> tuple[list[Charge], list[GivenBack]]:
        """Read what was booked for some orders."""
        ids = json.dumps(list(order_ids))

        def work(connection: sqlite3.Connection) -> tuple[list[Charge], list[GivenBack]]:
            charges = [Charge(*row) for row in connection.execute(_CHARGES, (ids,))]
            given = [GivenBack(*row) for row in connection.execute(_GIVEN_BACK, (ids,))]
            return charges, given

        return self._read(work)

    def order_ids(self, after: str, limit: int) -> list[str]:
        """List the orders that charges were booked for, by their id."""

        def work(connection: sqlite3.Connection) -> list[Any]:
            return connection.execute(_ORDER_IDS, (after, limit)).fetchall()

        return [order_id for (order_id,) in self._read(work)]

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        uri = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
                connection.execute("BEGIN")
                return work(connection)
        except sqlite3.Error as error:
            raise LedgerUnreadable(path=self._path, problem=str(error)) from error

"""What the simulated gateway has booked: how often money really moved."""

import sqlite3
from contextlib import closing
from pathlib import Path


class Ledger:
    """The gateway's own file, read from outside."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def charges(self, order_id: str) -> list[int]:
        """List what was taken for an order, in minor units; a declined charge takes nothing."""
        return self._amounts(
            "SELECT amount_minor FROM charges WHERE order_id = ? AND decline_code = ''", order_id
        )

    def refunds(self, order_id: str) -> list[int]:
        """List what was given back for an order, in minor units."""
        return self._amounts(
            "SELECT refunds.amount_minor FROM refunds"
            " JOIN charges ON charges.reference = refunds.charge_reference"
            " WHERE charges.order_id = ? AND refunds.decline_code = '' ORDER BY refunds.at",
            order_id,
        )

    def requests(self, order_id: str) -> int:
        """Count the charges that were booked for an order, the declined ones included."""
        return len(self._amounts("SELECT amount_minor FROM charges WHERE order_id = ?", order_id))

    def _amounts(self, query: str, order_id: str) -> list[int]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
            return [amount for (amount,) in connection.execute(query, (order_id,))]

"""The simulated gateway's own books: a SQLite file that outlives every process.

It stands for the other company: nothing in it is shared with the payment database, and it is
what tells, after any accident, how often the money really moved. It holds keys and amounts,
and neither tokens nor card numbers.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from payment_service.gateways.simulated_books import prepare

_SELECT_CHARGES: Final = (
    "SELECT key, reference, order_id, currency_code, amount_minor, decline_code,"
    " refund_answer, refund_decline_code FROM charges"
)
_SELECT_REFUNDS: Final = (
    "SELECT key, reference, charge_reference, currency_code, amount_minor, decline_code"
    " FROM refunds"
)
# What was booked since the key was last forgotten.
_SINCE: Final = "key = ? AND key_use = (SELECT key_use FROM requests WHERE requests.key = {0}.key)"
# What was approved before what was declined, and that in its order.
_EVER: Final = "key = ? ORDER BY decline_code <> '', key_use"


@dataclass(frozen=True)
class LedgerCharge:
    """A charge as the gateway booked it. With a decline code no money moved.

    `refund_answer` and `refund_decline_code` are what the token that was charged will make of
    its refunds.
    """

    key: str
    reference: str
    order_id: str
    currency_code: str
    amount_minor: int
    decline_code: str
    refund_answer: str
    refund_decline_code: str


@dataclass(frozen=True)
class LedgerRefund:
    """A refund as the gateway booked it. With a decline code no money moved."""

    key: str
    reference: str
    charge_reference: str
    currency_code: str
    amount_minor: int
    decline_code: str


class Books:
    """The books, within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def forget_key(self, key: str, *, first_before: datetime) -> None:
        """Forget a key if it was seen first before then. What was booked under it stays."""
        self._connection.execute(
            "UPDATE requests SET attempts = 0, key_use = key_use + 1"
            " WHERE key = ? AND attempts > 0 AND first_at < ?",
            (key, first_before.isoformat()),
        )

    def count_attempt(self, key: str, digest: bytes, *, at: datetime) -> int | None:
        """Count a request under a key. None: the key belongs to another request."""
        self._connection.execute(
            "INSERT INTO requests (key, digest, attempts, key_use, first_at)"
            " VALUES (?, ?, 1, 1, ?)"
            " ON CONFLICT (key) DO UPDATE SET attempts = attempts + 1,"
            " digest = CASE attempts WHEN 0 THEN excluded.digest ELSE digest END,"
            " first_at = CASE attempts WHEN 0 THEN excluded.first_at ELSE first_at END",
            (key, digest, at.isoformat()),
        )
        found, attempts = self._connection.execute(
            "SELECT digest, attempts FROM requests WHERE key = ?", (key,)
        ).fetchone()
        return int(attempts) if found == digest else None

    def add_charge(self, charge: LedgerCharge, *, at: datetime) -> None:
        """Book a charge."""
        self._connection.execute(
            "INSERT INTO charges (key, key_use, reference, order_id, currency_code, amount_minor,"
            " decline_code, refund_answer, refund_decline_code, at)"
            " VALUES (?, (SELECT key_use FROM requests WHERE key = ?), ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                charge.key,
                charge.key,
                charge.reference,
                charge.order_id,
                charge.currency_code,
                charge.amount_minor,
                charge.decline_code,
                charge.refund_answer,
                charge.refund_decline_code,
                at.isoformat(),
            ),
        )

    def add_refund(self, refund: LedgerRefund, *, at: datetime) -> None:
        """Book a refund."""
        self._connection.execute(
            "INSERT INTO refunds (key, key_use, reference, charge_reference, currency_code,"
            " amount_minor, decline_code, at)"
            " VALUES (?, (SELECT key_use FROM requests WHERE key = ?), ?, ?, ?, ?, ?, ?)",
            (
                refund.key,
                refund.key,
                refund.reference,
                refund.charge_reference,
                refund.currency_code,
                refund.amount_minor,
                refund.decline_code,
                at.isoformat(),
            ),
        )

    def charge(self, key: str) -> LedgerCharge | None:
        """Find the charge that a key moved money with, however long ago."""
        return self._charge(_EVER, key)

    def charge_under(self, key: str) -> LedgerCharge | None:
        """Find the charge that a repeat under a key is answered with."""
        return self._charge(_SINCE.format("charges"), key)

    def charge_of_reference(self, reference: str) -> LedgerCharge | None:
        """Find a charge by the gateway's own reference."""
        return self._charge("reference = ?", reference)

    def charges(self, order_id: str) -> list[LedgerCharge]:
        """List the charges of an order, the declined ones included."""
        return list(self._charges("order_id = ?", order_id))

    def refund(self, key: str) -> LedgerRefund | None:
        """Find the refund that a key moved money with, however long ago."""
        return next(self._refunds(_EVER, key), None)

    def refund_under(self, key: str) -> LedgerRefund | None:
        """Find the refund that a repeat under a key is answered with."""
        return next(self._refunds(_SINCE.format("refunds"), key), None)

    def refunds(self, charge_reference: str) -> list[LedgerRefund]:
        """List the refunds of a charge, the declined ones included."""
        return list(self._refunds("charge_reference = ?", charge_reference))

    def _charge(self, condition: str, value: str) -> LedgerCharge | None:
        return next(self._charges(condition, value), None)

    def _charges(self, condition: str, value: str) -> Iterator[LedgerCharge]:
        # nosemgrep: sql-from-strings - the conditions stand in this file, and the value is bound
        rows = self._connection.execute(f"{_SELECT_CHARGES} WHERE {condition}", (value,))
        return (LedgerCharge(*row) for row in rows.fetchall())

    def _refunds(self, condition: str, value: str) -> Iterator[LedgerRefund]:
        # nosemgrep: sql-from-strings - likewise
        rows = self._connection.execute(f"{_SELECT_REFUNDS} WHERE {condition}", (value,))
        return (LedgerRefund(*row) for row in rows.fetchall())


class SimulatedLedger:
    """The file of the books. One connection, used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # Several processes share the file; what was answered must survive a power cut.
        for pragma in ("busy_timeout = 2000", "journal_mode = WAL", "synchronous = FULL"):
            # nosemgrep: sql-from-strings - of the list above; a pragma takes no bound value
            self._connection.execute(f"PRAGMA {pragma}")
        prepare(self._connection)

    @contextmanager
    def transaction(self) -> Iterator[Books]:
        """Open the books; what is written is kept when the block ends well.

        Raises sqlite3.Error.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield Books(self._connection)
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

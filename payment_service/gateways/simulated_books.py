"""The tables of the simulated gateway's books, and how those of 0.1.0 become them."""

import sqlite3
from typing import Final

_TABLES: Final = (
    # `key_use` counts how often the gateway has seen the key as a new one: more than once if it
    # had forgotten it. What is booked belongs to one use.
    """
    CREATE TABLE IF NOT EXISTS requests (
        key TEXT PRIMARY KEY,
        digest BLOB NOT NULL,
        attempts INTEGER NOT NULL,
        key_use INTEGER NOT NULL,
        first_at TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS charges (
        key TEXT NOT NULL REFERENCES requests (key),
        key_use INTEGER NOT NULL,
        reference TEXT NOT NULL UNIQUE,
        order_id TEXT NOT NULL,
        currency_code TEXT NOT NULL,
        amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
        decline_code TEXT NOT NULL,
        refund_answer TEXT NOT NULL,
        refund_decline_code TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (key, key_use)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS refunds (
        key TEXT NOT NULL REFERENCES requests (key),
        key_use INTEGER NOT NULL,
        reference TEXT NOT NULL UNIQUE,
        charge_reference TEXT NOT NULL REFERENCES charges (reference),
        currency_code TEXT NOT NULL,
        amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
        decline_code TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (key, key_use)
    )
    """,
)
_INDEXES: Final = (
    "CREATE INDEX IF NOT EXISTS ix_charges_order_id ON charges (order_id)",
    "CREATE INDEX IF NOT EXISTS ix_refunds_charge_reference ON refunds (charge_reference)",
)

_SET_ASIDE: Final = tuple(
    f"ALTER TABLE {name} RENAME TO {name}_of_0_1_0" for name in ("requests", "charges", "refunds")
)
_TAKE_OVER: Final = (
    # They did not say when a key was seen first. As if today: none is forgotten too early.
    """
    INSERT INTO requests
    SELECT key, digest, attempts, 1, strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')
    FROM requests_of_0_1_0
    """,
    """
    INSERT INTO charges
    SELECT key, 1, reference, order_id, currency_code, amount_minor, decline_code, refund_answer,
        refund_decline_code, at
    FROM charges_of_0_1_0
    """,
    """
    INSERT INTO refunds
    SELECT key, 1, reference, charge_reference, currency_code, amount_minor, decline_code, at
    FROM refunds_of_0_1_0
    """,
    *(f"DROP TABLE {name}_of_0_1_0" for name in ("refunds", "charges", "requests")),
)


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or take over what is in those of 0.1.0. Raises sqlite3.Error."""
    if "key_use" in _columns(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Looked at again: another process may have been faster.
        is_old = _columns(connection) and "key_use" not in _columns(connection)
        take_over = (_SET_ASIDE, _TAKE_OVER) if is_old else ((), ())
        for statement in (*take_over[0], *_TABLES, *take_over[1], *_INDEXES):
            connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _columns(connection: sqlite3.Connection) -> set[str]:
    # Of the last table that is made: with it everything is there.
    return {name for _, name, *_ in connection.execute("PRAGMA table_info (refunds)")}

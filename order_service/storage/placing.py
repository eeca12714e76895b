"""A new order in one statement: its key, itself, its items and the beginning of its history.

On PostgreSQL alone: there it is one round trip instead of seven. If the key is known the statement
writes nothing, and who it belongs to is looked up in a transaction.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from order_service.storage.tables import (
    idempotency_keys,
    order_audit_actors,
    order_audit_entries,
    order_items,
    orders,
)
from service_kit.audit.writing import Link
from service_kit.statements import Statement, parameter

_ITEM_COLUMNS: Final = [column for column in order_items.c if column.name != "order_id"]


def place_at_once(
    connection: Connection,
    *,
    key: dict[str, Any],
    order: dict[str, Any],
    items: list[dict[str, Any]],
    link: Link,
) -> bool:
    """Write everything, unless the key is known. Say whether it was written.

    Each of the arguments is a row, or several, by the names of the columns.
    """
    values = {
        **_named("key", key),
        **_named("order", order),
        **_named("entry", link.entry),
        **_named("actor", link.actor),
    }
    for column in _ITEM_COLUMNS:
        values[f"items_{column.name}"] = [item[column.name] for item in items]
    return _place.change(connection, values) == 1


def _named(prefix: str, row: Any) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in row.items()}


def _statement() -> sa.Insert:
    claimed = (
        postgresql.insert(idempotency_keys)
        .inline()
        .values({c.name: parameter(c, f"key_{c.name}") for c in idempotency_keys.c})
        .on_conflict_do_nothing()
        .returning(sa.literal_column("1").label("one"))
        .cte("claimed")
    )
    rows = (
        sa.func.unnest(*map(_list_of, _ITEM_COLUMNS))
        .table_valued(*(c.name for c in _ITEM_COLUMNS))
        .render_derived()
    )
    order_id = parameter(orders.c.id, "order_id")
    lines = sa.insert(order_items).from_select(
        ["order_id", *(c.name for c in _ITEM_COLUMNS)],
        sa.select(order_id, *rows.c).select_from(claimed.join(rows, sa.true())),
        include_defaults=False,
    )
    entry = _insert(order_audit_entries, "entry", claimed, but="sequence")
    return entry.add_cte(
        _insert(orders, "order", claimed).cte("placed"),
        lines.cte("lines"),
        _insert(order_audit_actors, "actor", claimed).cte("acted"),
    )


def _list_of(column: sa.Column[Any]) -> sa.BindParameter[Any]:
    # Text without a length: a cast to one would cut what is too long, and not refuse it.
    kind = sa.String() if isinstance(column.type, sa.String) else column.type
    return sa.bindparam(f"items_{column.name}", type_=postgresql.ARRAY(kind))


def _insert(table: sa.Table, prefix: str, claimed: sa.CTE, but: str = "") -> sa.Insert:
    columns = [column for column in table.c if column.name != but]
    return sa.insert(table).from_select(
        [column.name for column in columns],
        sa.select(*(parameter(c, f"{prefix}_{c.name}") for c in columns)).select_from(claimed),
        include_defaults=False,
    )


_place: Final = Statement(_statement())

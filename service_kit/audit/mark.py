"""What a database says of the secret that seals its histories: another one is refused.

An entry that is sealed with another secret does not fit the one before it, for good.
"""

import hmac
from contextlib import closing
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from service_kit.audit.chain import SEAL_BYTES, ChainKey
from service_kit.database import Database
from service_kit.secrets import SecretUnusable

# Untyped: whoever writes by hand may write anything.
_INSTANCE: Final = sa.table("instance", sa.column("id"), sa.column("audit_mark"))
_ANOTHER: Final = (
    "CHECKOUT_SECRET_KEY (or its file) is not the secret that the {service}'s database is sealed"
    " with"
)


def mark_column() -> sa.Column[Any]:
    """Make the column that holds the mark, beside the id of the database."""
    return sa.Column("audit_mark", sa.LargeBinary(SEAL_BYTES), nullable=False)


def write_mark(connection: Connection, key: ChainKey) -> None:
    """Mark a database as sealed with this key."""
    instance = connection.execute(sa.select(_INSTANCE.c.id)).scalar_one()
    connection.execute(sa.update(_INSTANCE).values(audit_mark=key.mark(instance)))


def require_mark(database: Database, key: ChainKey, *, service: str) -> None:
    """Raise SecretUnusable unless the database is sealed with this key."""
    if not database.read(lambda connection: _is_marked(connection, key)):
        raise SecretUnusable(_ANOTHER.format(service=service))


def require_mark_at(url: str, key: ChainKey, *, service: str) -> None:
    """Do so before anything is opened that would have to be closed."""
    with closing(Database(url, pool_size=1)) as database:
        require_mark(database, key, service=service)


def instance_of(database: Database) -> str:
    """Return the id that a database was given when it was made."""
    query = sa.select(_INSTANCE.c.id)
    return str(database.read(lambda connection: connection.execute(query).scalar_one()))


def _is_marked(connection: Connection, key: ChainKey) -> bool:
    row: Row[Any] | None = connection.execute(sa.select(_INSTANCE)).first()
    if row is None or not isinstance(row.audit_mark, bytes):
        return False
    return hmac.compare_digest(row.audit_mark, key.mark(str(row.id)))

"""Schema migrations by Alembic: no ini file, no logging of its own, one process at a time."""

import zlib
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config

from service_kit.logging import get_logger
from service_kit.schema import connected, folder_of, require_known, revision_of, version_table
from service_kit.secrets import SecretKey, SecretUnusable

_CONNECTION: Final = "connection"
_VERSION_TABLE: Final = "version_table"
_KEY: Final = "key"


def upgrade(
    url: str, package: str, *, secret: Callable[[], SecretKey] | None = None, to: str = "head"
) -> None:
    """Bring the database to the newest revision in `package` (like `shop.storage.migrations`).

    All of it or nothing, in one transaction. Several processes may do it at once: one does,
    the others wait and find it done. `secret` is asked for only by a revision that seals the
    database with it. Raises SchemaUnknown, StorageUnavailable, SecretUnusable.
    """
    config = _config(package)
    config.attributes[_KEY] = secret
    with connected(url) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            # Any number will do that no other program locks in this database.
            key = zlib.crc32(package.encode())
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
        before = revision_of(connection, package)
        require_known(before, package)
        config.attributes[_CONNECTION] = connection
        command.upgrade(config, to)
        after = revision_of(connection, package)
    if after != before:
        get_logger().info("migrated", revision=after, previous=before)


def secret_key() -> SecretKey:
    """Return the secret, to the revision that runs. Raises SecretUnusable if there is none."""
    secret: Callable[[], SecretKey] | None = context.config.attributes[_KEY]
    if secret is None:
        raise SecretUnusable("there is no secret to seal what the database holds")
    return secret()


def run_env(target_metadata: sa.MetaData) -> None:
    """Run the migrations on the connection that `upgrade` opened: all that env.py does."""
    config = context.config
    context.configure(
        connection=config.attributes[_CONNECTION],
        target_metadata=target_metadata,
        version_table=config.attributes[_VERSION_TABLE],
    )
    # Within `upgrade`'s transaction.
    context.run_migrations()


def _config(package: str) -> Config:
    config = Config()
    # The value is a template: a % in a path would begin a name.
    config.set_main_option("script_location", str(folder_of(package)).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes[_VERSION_TABLE] = version_table(package)
    return config

"""Everywhere that a secret could have been left, read to the last byte."""

import base64
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import redis
import sqlalchemy as sa

from service_kit.database import Database
from tests.captured_log import CapturedLog
from tests.checkout import Checkout
from tests.scrape import scrape_server
from tests.system.files import folder_of


class HidingPlaces:
    """Both databases, their files, the gateway's ledger, Redis, the log and the metrics.

    `told` is for what callers were told.
    """

    def __init__(self, checkout: Checkout, log: CapturedLog, redis_url: str = "") -> None:
        self.told: list[str] = []
        self._checkout = checkout
        self._log = log
        self._redis_url = redis_url

    def of(self, secret: str) -> set[str]:
        """Name the places that have the secret, as it is or in base64."""
        needles = [secret.encode(), *_in_base64(secret.encode())]
        return {
            place
            for place, content in self._contents()
            if any(needle in content for needle in needles)
        }

    def files_with(self, secret: str) -> set[str]:
        """Name the files that have the secret. For after the end, when journals are closed."""
        files = (file for file in folder_of(self._checkout).rglob("*") if file.is_file())
        return {file.name for file in files if secret.encode() in file.read_bytes()}

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        checkout = self._checkout
        yield from _columns(checkout.order_database)
        yield from _columns(checkout.payment_database)
        for server in (checkout.order_server, checkout.payment_server):
            if server.metrics_address:
                yield "metrics", scrape_server(server.metrics_address).text.encode()
        yield "gateway", checkout.payment_settings.effective_gateway_ledger().read_bytes()
        yield "log", self._log.text.encode()
        yield "told", "\n".join(self.told).encode()
        if self._redis_url:
            with redis.Redis.from_url(self._redis_url) as client:
                for key in client.scan_iter():
                    yield "redis", key + b" " + client.get(key)


def _columns(database: Database) -> Iterator[tuple[str, bytes]]:
    """Read every value of every table. A place is `table.column`."""
    tables = sa.MetaData()
    tables.reflect(database.engine)
    assert tables.tables
    for table in tables.sorted_tables:
        rows = database.read(partial(_rows, table))
        for number, column in enumerate(table.columns):
            yield f"{table.name}.{column.name}", b"\n".join(_bytes(row[number]) for row in rows)


def _rows(table: sa.Table, connection: sa.Connection) -> Sequence[sa.Row[Any]]:
    return connection.execute(sa.select(table)).all()


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _in_base64(secret: bytes) -> list[bytes]:
    # The same bytes look different at each of three places; the ends depend on the neighbours.
    found = []
    for shift in range(3):
        encoded = base64.urlsafe_b64encode(b"\0" * shift + secret)
        whole = encoded[4 if shift else 0 : (shift + len(secret)) // 3 * 4]
        found.append(whole)
    return found

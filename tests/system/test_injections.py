"""Texts that would do something if a log, a database or a terminal believed them."""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Final

import pytest
import sqlalchemy as sa

from service_kit.database import Database
from tests.builders import new_order_item, new_request
from tests.captured_log import captured_log
from tests.checkout import Checkout
from tests.client import OPERATIONS, SHOP, Caller
from tests.nasty_texts import FORMAT, LOG, SQL, TEXTS
from tests.system.checkouts import BOTH, Checkouts
from tests.system.every_rpc import CONTRACTS, permitted_client, rpc_of
from tests.system.simultaneously import Outcome, outcome_of, reason_of
from tests.system.text_fields import STRING_FIELDS, with_text_at

pytestmark = pytest.mark.requirement("FR-357")

CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")


@pytest.fixture(scope="module", params=BOTH)
def checkout(request: pytest.FixtureRequest, checkouts: Checkouts) -> Iterator[Checkout]:
    """A checkout of the module's on each database."""
    with captured_log(), checkouts.running(request.param) as checkout:
        yield checkout


# What a field takes.
NAMES: Final = [text for text in TEXTS if text.isprintable() and 0 < len(text) <= 256]


def headers(text: str) -> str:
    """Keep what a client can send in metadata."""
    return "".join(c for c in text if " " <= c <= "~").strip() or "x"


def outcomes_of(checkout: Checkout, texts: tuple[str, ...]) -> Iterator[Outcome]:
    """Put each text into each field of each request, and into the metadata."""
    for text in texts:
        for contract, path in STRING_FIELDS:
            client, rpc = permitted_client(checkout, contract), rpc_of(contract)
            request = new_request(rpc)
            with_text_at(request, path, text)
            yield outcome_of(partial(client.answer, rpc, request))
        for name in ("x-actor-id", "x-on-behalf-of", "x-trace-id", "traceparent", "x-actor-role"):
            client = checkout.orders(SHOP.with_metadata((name, headers(text))))
            yield outcome_of(partial(client.answer, "ListOrders"))


class Books:
    """What there is in a database: its schema, and how many rows of each kind."""

    def __init__(self, database: Database) -> None:
        inspector = sa.inspect(database.engine)
        tables = sorted(inspector.get_table_names())
        self.schema = {table: str(inspector.get_columns(table)) for table in tables}
        self.rows = {table: database.read(partial(_count, table)) for table in tables}


def _count(table: str, connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one()


class TestADatabase:
    def test_threat_13_does_nothing_that_a_text_says(self, checkout: Checkout) -> None:
        checkout.refund(checkout.paid())
        databases = checkout.order_database, checkout.payment_database
        before = [Books(database) for database in databases]
        outcomes = {reason_of(outcome) for outcome in outcomes_of(checkout, SQL)}
        assert "INTERNAL" not in outcomes
        assert "STORAGE_UNAVAILABLE" not in outcomes
        for books, database in zip(before, databases, strict=True):
            after = Books(database)
            assert after.schema == books.schema
            lost = {table for table in books.rows if after.rows[table] < books.rows[table]}
            assert lost == set()

    @pytest.mark.parametrize("text", NAMES)
    def test_threat_13_keeps_a_text_as_it_is(self, checkout: Checkout, text: str) -> None:
        order = checkout.place(items=[new_order_item(sku=text, name=text)])
        [item] = checkout.order(order.id).items
        assert (item.sku, item.name) == (text, text)
        listed = checkout.orders(SHOP).ListOrders(customer_id=text)
        assert not listed.orders

    def test_threat_13_finds_only_what_is_named(self, checkout: Checkout) -> None:
        """A filter is compared, and neither a pattern nor a condition."""
        checkout.place(Caller("customer", "alice_1"))
        for pattern in ("%", "alice%", "alice_", "alice__", "' OR '1'='1"):
            assert not checkout.orders(OPERATIONS).ListOrders(customer_id=pattern).orders
            assert not checkout.payments(OPERATIONS).ListPayments(customer_id=pattern).payments


class TestTheLog:
    def test_threat_12_has_one_object_for_each_call_whatever_was_sent(
        self, checkouts: Checkouts
    ) -> None:
        with captured_log() as log, checkouts.running() as checkout:
            calls = sum(1 for _ in outcomes_of(checkout, (*LOG, *FORMAT)))
            lines = [json.loads(line) for line in log.text.split("\n") if line]
            assert not CONTROL.search(log.text.replace("\n", ""))
            of_callers = [line for line in lines if line["event"] == "rpc"]
            assert len(of_callers) >= calls
            methods = {contract.method for contract in CONTRACTS}
            assert {line["method"] for line in of_callers} <= methods
            assert not any("forged" in line["event"] for line in lines)

"""Orders made in bulk are orders to those who read them, page by page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bench.bulk import (
    CUSTOMER,
    OF_THE_REST_PEER,
    PAGE_SIZE,
    SHARE,
    fill,
    order_id,
    token_of_page,
)
from bench.peers.fastapi_rest.models import Base
from bench.subjects import count_rows
from tests.checkout import Checkout, migrate_orders, running_checkout
from tests.client import SHOP
from tests.servers.postgres import PostgresServer

# Two pages of the customer's and a half.
ORDERS = SHARE * PAGE_SIZE * 5 // 2


@pytest.fixture
def checkout(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Checkout]:
    url = postgres_server.create_database(postgres_server.template("orders", migrate_orders))
    with running_checkout(tmp_path, order_url=url) as checkout:
        fill(url, after=0, up_to=ORDERS)
        yield checkout
    postgres_server.drop_database(url)


def ids_of_page(checkout: Checkout, page: int) -> list[str]:
    token = token_of_page(checkout.order_server.address, page)
    response = checkout.orders(SHOP).ListOrders(
        customer_id=CUSTOMER, page_size=PAGE_SIZE, page_token=token
    )
    return [order.id for order in response.orders]


def test_an_order_in_bulk_can_be_read(checkout: Checkout) -> None:
    order = checkout.order(order_id(ORDERS))
    assert order.customer_id == CUSTOMER
    assert order.total_amount.minor_units == sum(
        item.quantity * item.unit_price.minor_units for item in order.items
    )


def test_a_page_is_reached_by_walking(checkout: Checkout) -> None:
    numbers = range(ORDERS, 0, -SHARE)
    for page in (1, 2, 3):
        expected = numbers[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        assert ids_of_page(checkout, page) == [order_id(number) for number in expected]


def test_a_shop_can_grow(checkout: Checkout) -> None:
    url = checkout.order_settings.effective_database_url()
    fill(url, after=ORDERS, up_to=ORDERS + SHARE)
    assert count_rows(url, "orders") == ORDERS + SHARE
    assert ids_of_page(checkout, 1)[0] == order_id(ORDERS + SHARE)


def test_the_peer_has_as_many(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    Base.metadata.create_all(engine)
    fill(postgres_url, after=0, up_to=ORDERS, with_=OF_THE_REST_PEER)
    assert count_rows(postgres_url, "orders") == ORDERS
    assert count_rows(postgres_url, "order_items") == 2 * ORDERS

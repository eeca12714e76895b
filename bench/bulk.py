"""Orders made in bulk, with their items and without a history, which reading does not need."""

from dataclasses import dataclass
from typing import Final

import grpc
import psycopg

from checkout.order.v1 import order_service_pb2 as pb
from checkout.order.v1 import order_service_pb2_grpc
from tests.servers.postgres import plain_url

# Whose pages are listed: a tenth of all orders is theirs.
CUSTOMER: Final = "alice"
SHARE: Final = 10
PAGE_SIZE: Final = 20

_AT_ONCE: Final = 500_000
_CONNECT_SECONDS: Final = 10
_CALL_SECONDS: Final = 10.0
_HEADERS: Final = (("x-actor-role", "service"), ("x-actor-id", "shop-backend"))


@dataclass(frozen=True)
class Statements:
    """What inserts the orders with the numbers from `first` to `last`, and their items."""

    orders: str
    items: str


# Ids in the order of their numbers, all of them older than those that the service makes.
OF_THE_SERVICES: Final = Statements(
    """
    INSERT INTO orders (id, customer_id, status, currency_code, total_minor, refunded_minor,
        version, revision, created_at, updated_at, audit_count, audit_head)
    SELECT 'ord_' || lpad(to_hex(n), 32, '0'),
        CASE WHEN n %% %(share)s = 0 THEN %(customer)s ELSE 'customer-' || n %% 10000 END,
        'created', 'EUR', 3390, 0, 1, 1, now(), now(), 1, decode(repeat('00', 32), 'hex')
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
    """,
    """
    INSERT INTO order_items (order_id, line, sku, name, quantity, unit_price_minor)
    SELECT 'ord_' || lpad(to_hex(n), 32, '0'), line, 'SKU-' || line, 'An item', line, 1130
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n, generate_series(1, 2) AS line
    """,
)
OF_THE_REST_PEER: Final = Statements(
    """
    INSERT INTO orders (id, customer_id, status, currency, total_amount, created_at, updated_at)
    SELECT 'ord_' || lpad(to_hex(n), 32, '0'),
        CASE WHEN n %% %(share)s = 0 THEN %(customer)s ELSE 'customer-' || n %% 10000 END,
        'created', 'EUR', 3390, now(), now()
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
    """,
    """
    INSERT INTO order_items (order_id, line, sku, name, quantity, unit_price)
    SELECT 'ord_' || lpad(to_hex(n), 32, '0'), line, 'SKU-' || line, 'An item', line, 1130
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n, generate_series(1, 2) AS line
    """,
)


def order_id(number: int) -> str:
    """Return the id of the order with a number, from 1 on."""
    return f"ord_{number:032x}"


def fill(database: str, *, after: int, up_to: int, with_: Statements = OF_THE_SERVICES) -> None:
    """Insert the orders with these numbers into a database on PostgreSQL."""
    with psycopg.connect(
        plain_url(database), autocommit=True, connect_timeout=_CONNECT_SECONDS
    ) as connection:
        for first in range(after + 1, up_to + 1, _AT_ONCE):
            span = {"first": first, "last": min(up_to, first + _AT_ONCE - 1)}
            connection.execute(with_.orders, {**span, "customer": CUSTOMER, "share": SHARE})
            connection.execute(with_.items, span)
        connection.execute("VACUUM ANALYZE")


def token_of_page(address: str, page: int) -> str:
    """Walk through the customer's pages on a service, and return what asks for this one."""
    token = ""
    with grpc.insecure_channel(f"127.0.0.1:{address.rpartition(':')[2]}") as channel:
        orders = order_service_pb2_grpc.OrderServiceStub(channel)
        for _ in range(page - 1):
            request = pb.ListOrdersRequest(
                customer_id=CUSTOMER, page_size=PAGE_SIZE, page_token=token
            )
            answer = orders.ListOrders(request, metadata=_HEADERS, timeout=_CALL_SECONDS)
            token = answer.next_page_token
    return token

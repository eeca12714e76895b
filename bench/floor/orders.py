"""The floor of the order service: its RPCs by hand, over the driver, and nothing else.

The same rows in the same tables, as durable, and the same reply and log line as the service's;
no checks, no roles, no limits, no metrics, no seals (their bytes are random), no retries. What the
service costs beyond this is what its promises cost, and what can be saved.
"""

import argparse
import base64
import hashlib
import hmac
import json
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc

from bench.floor.serving import TICKET_KEY, Caller, Connections, entry_values, serve, timestamp
from checkout.money.v1.money_pb2 import Money
from checkout.order.v1 import order_pb2
from checkout.order.v1 import order_service_pb2 as pb
from checkout.payment.v1 import payment_pb2, payment_service_pb2, payment_service_pb2_grpc
from service_kit.ids import new_id

_TICKET_HEADER: Final = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
_LEASE: Final = timedelta(seconds=15)

_PLACE: Final = """
WITH claimed AS (
    INSERT INTO idempotency_keys (caller_role, caller, idempotency_key, method, fingerprint,
        owner_id, lease_until, used_at, claimed_at, reply_ok, reply, replied_at)
    VALUES (%(role)s, %(caller)s, %(key)s, 'CreateOrder', %(fingerprint)s,
        %(owner)s, %(lease)s, %(now)s, %(now)s, true, %(reply)s, %(now)s)
    ON CONFLICT DO NOTHING RETURNING 1
), placed AS (
    INSERT INTO orders (id, customer_id, status, currency_code, total_minor, refunded_minor,
        version, revision, created_at, updated_at, audit_count, audit_head)
    SELECT %(id)s, %(customer)s, 'created', %(currency)s, %(total)s, 0,
        1, 1, %(now)s, %(now)s, 1, %(seal)s FROM claimed
), items AS (
    INSERT INTO order_items (order_id, line, sku, name, quantity, unit_price_minor)
    SELECT %(id)s, i.* FROM claimed, unnest(%(lines)s::int[], %(skus)s::text[],
        %(names)s::text[], %(quantities)s::int[], %(prices)s::bigint[]) AS i
), acted AS (
    INSERT INTO order_audit_actors (order_id, position, salt, actor_id, on_behalf_of)
    SELECT %(id)s, 1, %(salt)s, %(caller)s, '' FROM claimed
)
INSERT INTO order_audit_entries (order_id, actor_role, at, event_type, from_status, to_status,
    outcome, reason, payment_id, trace_id, position, actor_reference, seal_version, seal)
SELECT %(id)s, %(role)s, %(now)s, 'order_created', '', 'created',
    'applied', '', '', %(trace)s, 1, %(reference)s, 1, %(seal)s FROM claimed
"""

_READ: Final = """
SELECT o.id, o.customer_id, o.status, o.currency_code, o.total_minor, o.refunded_minor,
    o.payment_id, o.version, o.created_at, o.updated_at, i.sku, i.name, i.quantity,
    i.unit_price_minor
FROM orders o JOIN order_items i ON i.order_id = o.id WHERE o.id = %s ORDER BY i.line
"""

_BEGIN_PAYING: Final = """
WITH claimed AS (
    INSERT INTO idempotency_keys (caller_role, caller, idempotency_key, method, fingerprint,
        owner_id, lease_until, used_at, claimed_at, operation_id)
    VALUES (%(role)s, %(caller)s, %(key)s, 'PayOrder', %(fingerprint)s,
        %(owner)s, %(lease)s, %(now)s, %(now)s, %(operation)s)
    ON CONFLICT DO NOTHING RETURNING 1
), begun AS (
    UPDATE orders SET revision = revision + 1 FROM claimed
    WHERE id = %(id)s AND status = 'created' RETURNING id
)
INSERT INTO payment_operations (id, order_id, kind, status, caller_role, caller, on_behalf_of,
    trace_id, method, idempotency_key, fingerprint, started_at)
SELECT %(operation)s, id, 'charge', 'in_flight', %(role)s, %(caller)s, '',
    %(trace)s, 'PayOrder', %(key)s, %(fingerprint)s, %(now)s FROM begun
"""

_END_PAYING: Final = """
WITH paid AS (
    UPDATE orders SET status = 'paid', payment_id = %(payment)s, version = version + 1,
        revision = revision + 1, updated_at = %(now)s, audit_count = 2, audit_head = %(seal)s
    WHERE id = %(id)s AND status = 'created' RETURNING id
), ended AS (
    UPDATE payment_operations SET status = 'succeeded', payment_id = %(payment)s,
        ended_at = %(now)s FROM paid WHERE payment_operations.id = %(operation)s
), replied AS (
    UPDATE idempotency_keys SET reply_ok = true, reply = %(reply)s, replied_at = %(now)s,
        used_at = %(now)s FROM paid
    WHERE caller_role = %(role)s AND caller = %(caller)s AND idempotency_key = %(key)s
), acted AS (
    INSERT INTO order_audit_actors (order_id, position, salt, actor_id, on_behalf_of)
    SELECT id, 2, %(salt)s, %(caller)s, '' FROM paid
)
INSERT INTO order_audit_entries (order_id, actor_role, at, event_type, from_status, to_status,
    outcome, reason, payment_id, trace_id, position, actor_reference, seal_version, seal)
SELECT id, %(role)s, %(now)s, 'order_paid', 'created', 'paid',
    'applied', '', %(payment)s, %(trace)s, 2, %(reference)s, 1, %(seal)s FROM paid
"""


class PostgresOrders:
    """Each RPC in as few statements as it takes: its transactions are one statement each."""

    def __init__(self, url: str, payment_port: int) -> None:
        self._connections = Connections(url)
        channel = grpc.insecure_channel(f"127.0.0.1:{payment_port}")
        self._payments = payment_service_pb2_grpc.PaymentServiceStub(channel)

    def create(self, request: pb.CreateOrderRequest, caller: Caller) -> pb.CreateOrderResponse:
        """Place an order."""
        now, order_id = datetime.now(UTC), new_id("ord_")
        order = _placed(order_id, request, caller, now)
        reply = pb.CreateOrderResponse(order=order)
        items = request.items
        values = {
            **_claim(request, caller, now),
            **entry_values(caller),
            "id": order_id,
            "customer": order.customer_id,
            "currency": order.total_amount.currency_code,
            "total": order.total_amount.minor_units,
            "reply": reply.SerializeToString(deterministic=True),
            "lines": list(range(1, len(items) + 1)),
            "skus": [item.sku for item in items],
            "names": [item.name for item in items],
            "quantities": [item.quantity for item in items],
            "prices": [item.unit_price.minor_units for item in items],
        }
        if self._connections.postgres.execute(_PLACE, values).rowcount != 1:
            raise RuntimeError("the key is known")
        return reply

    def read(self, request: pb.GetOrderRequest, caller: Caller) -> pb.GetOrderResponse:
        """Read an order."""
        rows = self._connections.postgres.execute(_READ, [request.order_id]).fetchall()
        return pb.GetOrderResponse(order=_order(rows))

    def pay(self, request: pb.PayOrderRequest, caller: Caller) -> pb.PayOrderResponse:
        """Charge an order's total and mark it paid."""
        connection = self._connections.postgres
        now, operation = datetime.now(UTC), new_id("op_")
        values = {
            **_claim(request, caller, now),
            **entry_values(caller),
            "id": request.order_id,
            "operation": operation,
        }
        if connection.execute(_BEGIN_PAYING, values).rowcount != 1:
            raise RuntimeError("the key is known, or the order is not to be paid")
        order = _order(connection.execute(_READ, [request.order_id]).fetchall())
        payment = self._payments.ProcessPayment(
            payment_service_pb2.ProcessPaymentRequest(
                idempotency_key=operation,
                payment_ticket=order.payment_ticket,
                payment_token=request.payment_token,
            ),
            metadata=(("x-actor-role", "order_service"), ("x-actor-id", "order-service")),
        ).payment
        if payment.status != payment_pb2.PAYMENT_STATUS_SUCCEEDED:
            raise RuntimeError("declined")
        now = datetime.now(UTC)
        order.status = order_pb2.ORDER_STATUS_PAID
        order.payment_transaction_id = payment.id
        order.ClearField("payment_ticket")
        order.etag = "2"
        order.update_time.FromDatetime(now)
        reply = pb.PayOrderResponse(order=order)
        values |= {
            "now": now,
            "payment": payment.id,
            "reply": reply.SerializeToString(deterministic=True),
        }
        if connection.execute(_END_PAYING, values).rowcount != 1:
            raise RuntimeError("the order has changed")
        return reply


class SqliteOrders:
    """Placing and reading, on SQLite: as durable as the service's, one writer at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._mine = threading.local()
        self._writer = threading.Lock()

    def create(self, request: pb.CreateOrderRequest, caller: Caller) -> pb.CreateOrderResponse:
        """Place an order."""
        now, order_id = datetime.now(UTC), new_id("ord_")
        order = _placed(order_id, request, caller, now)
        reply = pb.CreateOrderResponse(order=order)
        claim, entry, at = _claim(request, caller, now), entry_values(caller), _text(now)
        connection = self._connection()
        with self._writer:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO idempotency_keys (caller_role, caller, idempotency_key, method,"
                " fingerprint, owner_id, lease_until, used_at, claimed_at, reply_ok, reply,"
                " replied_at) VALUES (?, ?, ?, 'CreateOrder', ?, ?, ?, ?, ?, 1, ?, ?)",
                (
                    *(caller.role, caller.id, request.idempotency_key, claim["fingerprint"]),
                    *(claim["owner"], _text(claim["lease"]), at, at),
                    *(reply.SerializeToString(deterministic=True), at),
                ),
            )
            connection.execute(
                "INSERT INTO orders (id, customer_id, status, currency_code, total_minor,"
                " refunded_minor, version, revision, created_at, updated_at, audit_count,"
                " audit_head) VALUES (?, ?, 'created', ?, ?, 0, 1, 1, ?, ?, 1, ?)",
                (
                    *(order_id, order.customer_id, order.total_amount.currency_code),
                    *(order.total_amount.minor_units, at, at, entry["seal"]),
                ),
            )
            connection.executemany(
                "INSERT INTO order_items (order_id, line, sku, name, quantity, unit_price_minor)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (order_id, line, i.sku, i.name, i.quantity, i.unit_price.minor_units)
                    for line, i in enumerate(request.items, start=1)
                ],
            )
            connection.execute(
                "INSERT INTO order_audit_actors (order_id, position, salt, actor_id,"
                " on_behalf_of) VALUES (?, 1, ?, ?, '')",
                (order_id, entry["salt"], caller.id),
            )
            connection.execute(
                "INSERT INTO order_audit_entries (order_id, actor_role, at, event_type,"
                " from_status, to_status, outcome, reason, payment_id, trace_id, position,"
                " actor_reference, seal_version, seal) VALUES (?, ?, ?, 'order_created', '',"
                " 'created', 'applied', '', '', ?, 1, ?, 1, ?)",
                (order_id, caller.role, at, caller.trace_id, entry["reference"], entry["seal"]),
            )
            connection.execute("COMMIT")
        return reply

    def read(self, request: pb.GetOrderRequest, caller: Caller) -> pb.GetOrderResponse:
        """Read an order."""
        rows = self._connection().execute(_READ.replace("%s", "?"), [request.order_id]).fetchall()
        moments = {8, 9}
        read = [
            tuple(
                datetime.fromisoformat(value).replace(tzinfo=UTC) if column in moments else value
                for column, value in enumerate(row)
            )
            for row in rows
        ]
        return pb.GetOrderResponse(order=_order(read))

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            self._mine.connection = connection
        return connection


def _claim(request: Any, caller: Caller, now: datetime) -> dict[str, Any]:
    return {
        "role": caller.role,
        "caller": caller.id,
        "key": request.idempotency_key,
        "fingerprint": hashlib.sha256(request.SerializeToString(deterministic=True)).digest(),
        "owner": new_id("run_"),
        "lease": now + _LEASE,
        "now": now,
    }


def _placed(
    order_id: str, request: pb.CreateOrderRequest, caller: Caller, now: datetime
) -> order_pb2.Order:
    currency = request.items[0].unit_price.currency_code
    prices = [(item, item.quantity * item.unit_price.minor_units) for item in request.items]
    order = order_pb2.Order(
        id=order_id,
        customer_id=request.customer_id or caller.id,
        status=order_pb2.ORDER_STATUS_CREATED,
        items=[
            order_pb2.OrderItem(
                sku=item.sku,
                name=item.name,
                quantity=item.quantity,
                unit_price=item.unit_price,
                line_total=Money(currency_code=currency, minor_units=total),
            )
            for item, total in prices
        ],
        total_amount=Money(currency_code=currency, minor_units=sum(total for _, total in prices)),
        refunded_amount=Money(currency_code=currency),
        etag="1",
        create_time=timestamp(now),
        update_time=timestamp(now),
    )
    order.payment_ticket = _ticket(order)
    return order


def _order(rows: list[Any]) -> order_pb2.Order:
    first = rows[0]
    currency = first[3]
    order = order_pb2.Order(
        id=first[0],
        customer_id=first[1],
        status=order_pb2.OrderStatus.Value(f"ORDER_STATUS_{first[2].upper()}"),
        items=[
            order_pb2.OrderItem(
                sku=sku,
                name=name,
                quantity=quantity,
                unit_price=Money(currency_code=currency, minor_units=price),
                line_total=Money(currency_code=currency, minor_units=price * quantity),
            )
            for *_, sku, name, quantity, price in rows
        ],
        total_amount=Money(currency_code=currency, minor_units=first[4]),
        refunded_amount=Money(currency_code=currency, minor_units=first[5]),
        payment_transaction_id=first[6] or "",
        etag=str(first[7]),
        create_time=timestamp(first[8]),
        update_time=timestamp(first[9]),
    )
    if order.status == order_pb2.ORDER_STATUS_CREATED:
        order.payment_ticket = _ticket(order)
    return order


def _ticket(order: order_pb2.Order) -> str:
    claims = {
        "iss": "order-service",
        "aud": "payment-service",
        "order_id": order.id,
        "customer_id": order.customer_id,
        "currency_code": order.total_amount.currency_code,
        "minor_units": order.total_amount.minor_units,
    }
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    signed = _TICKET_HEADER + b"." + body
    seal = base64.urlsafe_b64encode(hmac.digest(TICKET_KEY, signed, "sha256")).rstrip(b"=")
    return (signed + b"." + seal).decode()


def _text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True, help="a PostgreSQL URL or an SQLite file")
    parser.add_argument("--payments", type=int, default=0, metavar="PORT")
    options = parser.parse_args()
    methods: dict[str, Any] = {}
    orders: PostgresOrders | SqliteOrders
    if "://" in options.database:
        orders = PostgresOrders(options.database, options.payments)
        methods["PayOrder"] = (pb.PayOrderRequest, orders.pay)
    else:
        orders = SqliteOrders(options.database)
    methods |= {
        "CreateOrder": (pb.CreateOrderRequest, orders.create),
        "GetOrder": (pb.GetOrderRequest, orders.read),
    }
    serve("checkout.order.v1.OrderService", options.port, methods)


if __name__ == "__main__":
    main()

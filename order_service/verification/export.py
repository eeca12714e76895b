"""All that is known of an order, from both services, for an export of its history."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from order_service.verification.command import opened
from order_service.verification.read_evidence import ORDER_TABLES, PAYMENT_TABLES
from service_kit.audit.chain import ChainKey
from service_kit.audit.file import Part
from service_kit.audit.rows import Rows, read_part
from service_kit.audit.tables import Trail
from service_kit.secrets import SecretKey

# As the payment service's storage has it.
PAYMENT_TRAIL: Final = Trail(
    service="payment-service",
    heads="payment_orders",
    head_id="order_id",
    prefix="payment_audit",
    subject="order_id",
    told=(
        "payment_id",
        "refund_id",
        "at",
        "event_type",
        "from_status",
        "to_status",
        "outcome",
        "reason",
        "trace_id",
    ),
)

# Who called is told by the history alone, which can forget it; a payment token by nothing.
_ORDER_ROWS: Final = (
    Rows(
        what="order",
        table="orders",
        subject="id",
        told=(
            "id",
            "customer_id",
            "status",
            "currency_code",
            "total_minor",
            "refunded_minor",
            "payment_id",
            "version",
            "created_at",
            "updated_at",
        ),
    ),
    Rows(
        what="item",
        table="order_items",
        subject="order_id",
        told=("line", "sku", "name", "quantity", "unit_price_minor"),
    ),
    Rows(
        what="operation",
        table="payment_operations",
        subject="order_id",
        told=(
            "id",
            "kind",
            "status",
            "amount_minor",
            "currency_code",
            "payment_id",
            "method",
            "trace_id",
            "started_at",
            "ended_at",
            "problem",
        ),
    ),
)
PAYMENT_ROWS: Final = (
    Rows(
        what="seal",
        table="payment_orders",
        subject="order_id",
        told=("order_id", "sealed_at"),
    ),
    Rows(
        what="payment",
        table="payments",
        subject="order_id",
        told=(
            "id",
            "customer_id",
            "status",
            "currency_code",
            "amount_minor",
            "refunded_minor",
            "decline_code",
            "void_reason",
            "gateway",
            "gateway_reference",
            "created_at",
            "updated_at",
        ),
    ),
    Rows(
        what="refund",
        table="refunds",
        subject="order_id",
        told=(
            "id",
            "payment_id",
            "status",
            "currency_code",
            "amount_minor",
            "decline_code",
            "gateway_reference",
            "created_at",
            "updated_at",
        ),
    ),
)


def read_parts(
    order_id: str,
    secret: SecretKey,
    *,
    order_trail: Trail,
    order_database_url: str,
    payment_database_url: str,
) -> Sequence[Part]:
    """Read what each service knows of an order; no part at all if neither knows it.

    The payment service need not know one that was never paid. Raises CannotVerify.
    """
    sources = (
        ("order", order_database_url, ORDER_TABLES, order_trail, _ORDER_ROWS),
        ("payment", payment_database_url, PAYMENT_TABLES, PAYMENT_TRAIL, PAYMENT_ROWS),
    )
    parts = []
    for service, url, tables, trail, rows in sources:
        with opened(service, url, tables) as database:
            key = ChainKey.of(trail.service, secret)
            parts.append(read_part(database, trail, key, order_id, rows))
    if all(part.is_empty for part in parts):
        return []
    ours, theirs = parts
    return [ours, replace(theirs, is_expected=any(map(_tells_of_a_payment, ours.rows)))]


def _tells_of_a_payment(told: tuple[str, Mapping[str, object]]) -> bool:
    what, row = told
    if what == "order":
        return bool(row["payment_id"])
    return what == "operation" and (row["kind"], row["status"]) == ("charge", "succeeded")

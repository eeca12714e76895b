"""What an export of an order's history tells besides it: the rows of its payments."""

from typing import Final

from service_kit.audit.rows import Rows

# Who called is told by the history alone, which can forget it; a payment token by nothing.
ROWS: Final = (
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

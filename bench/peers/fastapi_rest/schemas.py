"""What is sent and answered. Amounts are in minor units."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Key = Annotated[str, Field(min_length=8, max_length=64)]


class NewItem(BaseModel):
    """A line of an order to place."""

    sku: str = Field(min_length=1, max_length=256)
    name: str = Field(min_length=1, max_length=256)
    quantity: int = Field(ge=1, le=10_000)
    unit_price: int = Field(ge=0, le=10_000_000_000)


class CreateOrderRequest(BaseModel):
    """An order to place."""

    idempotency_key: Key
    customer_id: str = Field(min_length=1, max_length=256)
    currency: str = Field(pattern="^[A-Z]{3}$")
    items: list[NewItem] = Field(min_length=1, max_length=100)


class Item(NewItem):
    """A line of an order."""

    model_config = ConfigDict(from_attributes=True)


class OrderResponse(BaseModel):
    """An order."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    customer_id: str
    status: str
    currency: str
    total_amount: int
    items: list[Item]
    payment_transaction_id: str | None
    created_at: datetime
    updated_at: datetime


class OrdersPage(BaseModel):
    """A page of orders."""

    orders: list[OrderResponse]
    page: int


class PaymentRequest(BaseModel):
    """An order to charge."""

    idempotency_key: Key
    order_id: str = Field(min_length=1, max_length=64)
    payment_token: str = Field(min_length=1, max_length=256)


class PaymentResponse(BaseModel):
    """A charge."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    order_id: str
    amount: int
    currency: str
    status: str
    created_at: datetime


class MarkOrderPaidRequest(BaseModel):
    """An order to mark as paid."""

    transaction_id: str = Field(min_length=1, max_length=64)

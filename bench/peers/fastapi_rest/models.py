"""The tables, as SQLAlchemy's ORM has them."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """All tables. Moments have a zone."""

    type_annotation_map = {datetime: sa.DateTime(timezone=True)}  # noqa: RUF012 - its own way


class Order(Base):
    """An order and what has become of it."""

    __tablename__ = "orders"
    __table_args__ = (
        sa.CheckConstraint("total_amount > 0", name="total_is_positive"),
        sa.Index("ix_orders_customer_id_created_at_id", "customer_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    customer_id: Mapped[str] = mapped_column(sa.String(256))
    status: Mapped[str] = mapped_column(sa.String(16))
    currency: Mapped[str] = mapped_column(sa.String(3))
    total_amount: Mapped[int] = mapped_column(sa.BigInteger)
    payment_transaction_id: Mapped[str | None] = mapped_column(sa.String(64), unique=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    items: Mapped[list["OrderItem"]] = relationship(order_by="OrderItem.line")


class OrderItem(Base):
    """A line of an order."""

    __tablename__ = "order_items"

    order_id: Mapped[str] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sku: Mapped[str] = mapped_column(sa.String(256))
    name: Mapped[str] = mapped_column(sa.String(256))
    quantity: Mapped[int]
    unit_price: Mapped[int] = mapped_column(sa.BigInteger)


class Payment(Base):
    """A charge."""

    __tablename__ = "payments"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    order_id: Mapped[str] = mapped_column(sa.ForeignKey("orders.id"), index=True)
    amount: Mapped[int] = mapped_column(sa.BigInteger)
    currency: Mapped[str] = mapped_column(sa.String(3))
    status: Mapped[str] = mapped_column(sa.String(16))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    order: Mapped[Order] = relationship()


class AuditEntry(Base):
    """What somebody did to an order or a payment."""

    __tablename__ = "audit_entries"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    order_id: Mapped[str] = mapped_column(sa.ForeignKey("orders.id"), index=True)
    actor_id: Mapped[str] = mapped_column(sa.String(256))
    event_type: Mapped[str] = mapped_column(sa.String(64))
    trace_id: Mapped[str] = mapped_column(sa.String(32))
    at: Mapped[datetime]
    order: Mapped[Order] = relationship()


class StoredReply(Base):
    """What was answered to a key: the database has the last word, Redis only a fast one."""

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    reply: Mapped[str]
    created_at: Mapped[datetime]

"""What a team would write instead: REST on FastAPI, SQLAlchemy's ORM and asyncpg, Redis.

Well done, as far as this design goes: a key's reply is stored with the change and remembered in
Redis for a minute, rows are locked before they are changed, every request writes one line.
"""

import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import redis.asyncio
import structlog
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import selectinload

from bench.peers.fastapi_rest.models import AuditEntry, Base, Order, OrderItem, Payment, StoredReply
from bench.peers.fastapi_rest.schemas import (
    CreateOrderRequest,
    MarkOrderPaidRequest,
    OrderResponse,
    OrdersPage,
    PaymentRequest,
    PaymentResponse,
)

_CONNECTIONS: Final = 16
_REMEMBERED_SECONDS: Final = 60
_VALID_TRANSITIONS: Final = {"created": ("paid", "cancelled"), "paid": ("fulfilled", "refunded")}

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(),
    ],
    logger_factory=structlog.WriteLoggerFactory(),
    cache_logger_on_first_use=True,
)
_log = structlog.get_logger()
_engine = create_async_engine(
    os.environ["DATABASE_URL"], pool_size=_CONNECTIONS, max_overflow=0, pool_timeout=60
)
_sessions = async_sessionmaker(_engine, expire_on_commit=False)
_redis = redis.asyncio.Redis(
    connection_pool=redis.asyncio.BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], max_connections=_CONNECTIONS, timeout=60
    )
)


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with _engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await _engine.dispose()
    await _redis.aclose()


app = FastAPI(lifespan=_lifespan)


async def _session() -> AsyncIterator[AsyncSession]:
    async with _sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(_session)]
TraceId = Annotated[str, Header(alias="x-trace-id", default_factory=lambda: uuid.uuid4().hex)]
ActorId = Annotated[str, Header(alias="x-actor-id")]


class _LogLine:
    """Writes one line for each request; plain ASGI, which costs least."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def send_and_look(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._app(scope, receive, send_and_look)
        headers = dict(scope["headers"])
        _log.info(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            duration_ms=round((time.monotonic() - began) * 1000, 2),
            caller=headers.get(b"x-actor-id", b"").decode(),
            trace_id=headers.get(b"x-trace-id", b"").decode(),
        )


app.add_middleware(_LogLine)


@app.get("/health")
async def health() -> dict[str, str]:
    """Say that it serves."""
    return {"status": "healthy"}


@app.post("/orders", response_model=OrderResponse, status_code=201)
async def create_order(
    body: CreateOrderRequest, session: Session, actor_id: ActorId, trace_id: TraceId
) -> Response:
    """Place an order, once per key."""

    async def place() -> BaseModel:
        now = datetime.now(UTC)
        order = Order(
            id=f"ord_{uuid.uuid4().hex}",
            customer_id=body.customer_id,
            status="created",
            currency=body.currency,
            total_amount=sum(item.quantity * item.unit_price for item in body.items),
            payment_transaction_id=None,
            created_at=now,
            updated_at=now,
            items=[
                OrderItem(line=line, **item.model_dump())
                for line, item in enumerate(body.items, start=1)
            ],
        )
        session.add(order)
        session.add(_entry(order.id, "order_created", actor_id, trace_id))
        return OrderResponse.model_validate(order)

    return await _once(session, "orders", body, place, status_code=201)


@app.get("/orders/{order_id}", response_model=OrderResponse)
async def get_order(order_id: str, session: Session) -> Order:
    """Read an order."""
    query = select(Order).where(Order.id == order_id).options(selectinload(Order.items))
    order = await session.scalar(query)
    if order is None:
        raise HTTPException(404, {"error_code": "ORDER_NOT_FOUND"})
    return order


@app.get("/orders", response_model=OrdersPage)
async def list_orders(
    session: Session, customer_id: str, page: int = 1, page_size: int = 20
) -> OrdersPage:
    """Read a page of a customer's orders, newest first."""
    query = (
        select(Order)
        .where(Order.customer_id == customer_id)
        .order_by(Order.created_at.desc(), Order.id.desc())
        .limit(page_size)
        .offset((page - 1) * page_size)
        .options(selectinload(Order.items))
    )
    orders = await session.scalars(query)
    return OrdersPage(orders=[OrderResponse.model_validate(o) for o in orders], page=page)


@app.post("/pay", response_model=PaymentResponse)
async def pay(
    body: PaymentRequest, session: Session, actor_id: ActorId, trace_id: TraceId
) -> Response:
    """Charge an order, once per key. The gateway is a mock that approves."""

    async def charge() -> BaseModel:
        order = await session.get(Order, body.order_id, with_for_update=True)
        if order is None:
            raise HTTPException(404, {"error_code": "ORDER_NOT_FOUND"})
        now = datetime.now(UTC)
        payment = Payment(
            id=f"pay_{uuid.uuid4().hex}",
            order_id=order.id,
            amount=order.total_amount,
            currency=order.currency,
            status="succeeded",
            created_at=now,
            updated_at=now,
        )
        session.add(payment)
        session.add(_entry(order.id, "payment_succeeded", actor_id, trace_id))
        return PaymentResponse.model_validate(payment)

    return await _once(session, "payments", body, charge)


@app.patch("/orders/{order_id}/pay", response_model=OrderResponse)
async def mark_order_paid(
    order_id: str,
    body: MarkOrderPaidRequest,
    session: Session,
    actor_id: ActorId,
    trace_id: TraceId,
) -> Order:
    """Mark an order as paid by a payment."""
    query = (
        select(Order)
        .where(Order.id == order_id)
        .options(selectinload(Order.items))
        .with_for_update()
    )
    order = await session.scalar(query)
    payment = await session.get(Payment, body.transaction_id)
    if order is None or payment is None:
        raise HTTPException(404, {"error_code": "ORDER_OR_PAYMENT_NOT_FOUND"})
    if "paid" not in _VALID_TRANSITIONS.get(order.status, ()):
        session.add(_entry(order_id, "invalid_transition_attempted", actor_id, trace_id))
        await session.commit()
        raise HTTPException(400, {"error_code": "INVALID_TRANSITION"})
    if (payment.order_id, payment.amount) != (order.id, order.total_amount):
        raise HTTPException(400, {"error_code": "PAYMENT_DOES_NOT_FIT"})
    order.status, order.payment_transaction_id = "paid", payment.id
    order.updated_at = datetime.now(UTC)
    session.add(_entry(order_id, "order_paid", actor_id, trace_id))
    await session.commit()
    return order


async def _once(
    session: AsyncSession,
    scope: str,
    body: CreateOrderRequest | PaymentRequest,
    execute: Callable[[], Awaitable[BaseModel]],
    *,
    status_code: int = 200,
) -> Response:
    """Execute and store the reply together; answer a repeat with what is stored."""
    name = f"{scope}:{body.idempotency_key}"
    fingerprint = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    remembered = await _redis.get(name)
    if isinstance(remembered, bytes) and remembered.startswith(fingerprint.encode()):
        return _json(remembered[len(fingerprint) :], 200)
    reply = (await execute()).model_dump_json()
    stored = insert(StoredReply).values(
        scope=scope,
        key=body.idempotency_key,
        fingerprint=fingerprint,
        reply=reply,
        created_at=datetime.now(UTC),
    )
    if (await session.execute(stored.on_conflict_do_nothing())).rowcount != 1:  # type: ignore[attr-defined]
        await session.rollback()
        known = await session.get_one(StoredReply, (scope, body.idempotency_key))
        if known.fingerprint != fingerprint:
            raise HTTPException(409, {"error_code": "IDEMPOTENCY_KEY_REUSED"})
        return _json(known.reply, 200)
    await session.commit()
    await _redis.set(name, fingerprint + reply, ex=_REMEMBERED_SECONDS)
    return _json(reply, status_code)


def _json(body: str | bytes, status_code: int) -> Response:
    return Response(body, status_code, media_type="application/json")


def _entry(order_id: str, event_type: str, actor_id: str, trace_id: str) -> AuditEntry:
    return AuditEntry(
        order_id=order_id,
        actor_id=actor_id,
        event_type=event_type,
        trace_id=trace_id,
        at=datetime.now(UTC),
    )


def main() -> None:
    """Serve on 127.0.0.1 until the process is ended."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()

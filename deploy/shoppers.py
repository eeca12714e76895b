"""Clients that go through one checkout after the other, over one connection."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from checkout.money.v1.money_pb2 import Money
from checkout.order.v1 import order_pb2, order_service_pb2
from checkout.order.v1.order_service_pb2_grpc import OrderServiceStub
from deploy.client import Caller, Refused
from deploy.connections import Plain

SHOPPERS: Final = 8
CHECKOUTS_MAX: Final = 4_000

_ATTEMPTS_MAX: Final = 10
_TIMEOUT_SECONDS: Final = 10
# One of so many cards belongs to a slow bank.
_SLOW_ONE_OF: Final = 10
_CALLER: Final = Caller("service", "shop-backend")


@dataclass
class Tally:
    """What came of the checkouts."""

    made: int = 0
    failed: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    # Checkouts of which a client sent a call again, and those of which only Envoy did.
    helped_by_client: int = 0
    helped_by_envoy: int = 0
    # Why clients sent again.
    refusals: Counter[str] = field(default_factory=Counter)


class Shoppers:
    """Create, pay, get, and again, until somebody ends it or there were enough."""

    def __init__(self, address: str) -> None:
        self.tally = Tally()
        self._address = address
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._begun = 0

    @contextmanager
    def shopping(self) -> Iterator[None]:
        """Shop while the block runs; then every checkout that has begun is finished."""
        self._over.clear()
        with Plain().channel(self._address) as channel, ThreadPoolExecutor(SHOPPERS) as threads:
            shop = OrderServiceStub(channel)
            for _ in range(SHOPPERS):
                threads.submit(self._shop, shop)
            try:
                yield
            finally:
                self._over.set()

    def _shop(self, shop: OrderServiceStub) -> None:
        while (number := self._next()) is not None:
            began = time.monotonic()
            checkout = _Checkout(shop, number)
            problem = checkout.problem()
            self._count(checkout, problem, time.monotonic() - began)

    def _count(self, checkout: "_Checkout", problem: str, seconds: float) -> None:
        with self._lock:
            tally = self.tally
            tally.slowest_seconds = max(tally.slowest_seconds, seconds)
            tally.refusals += checkout.refusals
            tally.helped_by_client += bool(checkout.refusals)
            tally.helped_by_envoy += checkout.was_helped_by_envoy and not checkout.refusals
            if problem:
                tally.failed.append(problem)
            else:
                tally.made += 1

    def _next(self) -> int | None:
        with self._lock:
            if self._over.is_set() or self._begun == CHECKOUTS_MAX:
                return None
            self._begun += 1
            return self._begun


class _Checkout:
    """One of them: an order that is placed, paid and read."""

    def __init__(self, shop: OrderServiceStub, number: int) -> None:
        self._shop = shop
        self._token = "tok_visa" if number % _SLOW_ONE_OF else "tok_slow"
        self.refusals = Counter[str]()
        self.was_helped_by_envoy = False

    def problem(self) -> str:
        """Go through it. Return what is wrong in the end; nothing if the order is paid."""
        try:
            return self._check_out()
        except Refused as refused:
            return str(refused)

    def _check_out(self) -> str:
        mug = order_service_pb2.NewOrderItem(
            sku="MUG-1",
            name="Mug",
            quantity=2,
            unit_price=Money(currency_code="EUR", minor_units=1250),
        )
        created = self._send(
            self._shop.CreateOrder,
            order_service_pb2.CreateOrderRequest(
                idempotency_key=str(uuid.uuid4()), customer_id="alice", items=[mug]
            ),
        )
        self._send(
            self._shop.PayOrder,
            order_service_pb2.PayOrderRequest(
                idempotency_key=str(uuid.uuid4()),
                order_id=created.order.id,
                payment_token=self._token,
            ),
        )
        read = self._send(
            self._shop.GetOrder, order_service_pb2.GetOrderRequest(order_id=created.order.id)
        )
        is_paid = read.order.status == order_pb2.ORDER_STATUS_PAID
        return "" if is_paid else f"{read.order.id} is not paid"

    def _send(self, rpc: Any, request: Message) -> Any:
        """Send the same again until there is an answer that lasts, as the README says."""
        for attempt in range(_ATTEMPTS_MAX):
            try:
                reply, done = rpc.with_call(
                    request, metadata=_CALLER.metadata, timeout=_TIMEOUT_SECONDS
                )
            except grpc.RpcError as error:
                refused = Refused(error)
                if not _may_pass(refused) or attempt == _ATTEMPTS_MAX - 1:
                    raise refused from None
            else:
                attempts = dict(done.initial_metadata()).get("x-envoy-attempt-count", "1")
                self.was_helped_by_envoy |= int(attempts) > 1
                return reply
            self.refusals[refused.reason or refused.code.name] += 1
            time.sleep(min(0.2 * 2**attempt, 3))
        raise AssertionError


def _may_pass(refused: Refused) -> bool:
    return refused.is_passing or refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED

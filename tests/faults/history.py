"""What every client was told, and when: the history that is checked against the databases.

A request is sent again with the same key and the same trace id, so that whatever it did, whoever
finished it, is found in the order's history under that trace.
"""

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from service_kit.status import Refusal, refusal_of
from tests.builders import new_request, new_trace_id
from tests.client import ORDER_SERVICE_NAME, PAYMENT_SERVICE_NAME, Answer, Caller, Client

_PAYMENT_RPCS: Final = frozenset(
    descriptor_pool.Default().FindServiceByName(PAYMENT_SERVICE_NAME).methods_by_name
)
# The service may have done it and have been kept from saying so.
_MAYBE_DONE: Final = frozenset({"", "PAYMENT_OUTCOME_UNKNOWN", "STORAGE_UNAVAILABLE"})


@dataclass(frozen=True)
class SeenOrder:
    """An order as a client was shown it."""

    id: str
    status: str
    version: int
    refunded: int
    payment_id: str


@dataclass(frozen=True)
class SeenPayment:
    """A payment as a client was shown it."""

    id: str
    status: str


@dataclass(frozen=True)
class Answered:
    """Told that it is done. `reply` is the SHA-256 of the reply's bytes."""

    reply: bytes
    replayed: bool = False
    order: SeenOrder | None = None
    payment: SeenPayment | None = None


@dataclass(frozen=True)
class Refused:
    """Told why not. A final refusal is stored and repeated; any other may turn into an answer."""

    reason: str
    final: bool
    reply: bytes = b""
    payment_id: str = ""


@dataclass(frozen=True)
class Unknown:
    """Told nothing that says whether it was done."""

    problem: str


Outcome = Answered | Refused | Unknown


@dataclass(frozen=True)
class Request:
    """What somebody wants, once or again: the same bytes, key and trace id each time."""

    caller: Caller
    rpc: str
    order_id: str
    key: str
    body: bytes
    trace_id: str

    @property
    def service(self) -> str:
        """The full name of the service that is asked."""
        return PAYMENT_SERVICE_NAME if self.rpc in _PAYMENT_RPCS else ORDER_SERVICE_NAME


@dataclass(frozen=True)
class Call:
    """A request that was sent once, from when to when by the monotonic clock, and what came."""

    client: str
    request: Request
    invoked: float
    returned: float
    outcome: Outcome

    def __str__(self) -> str:
        key = f" under {self.request.key}" if self.request.key else ""
        return f"{self.request.rpc}{key} (order {self.request.order_id or 'new'})"


def ask(rpc: str, caller: Caller, *, about: str = "", **fields: Any) -> Request:
    """Build a request; `about` names the order if the request itself does not."""
    message = new_request(rpc, **fields)
    return Request(
        caller=caller,
        rpc=rpc,
        order_id=about or getattr(message, "order_id", ""),
        key=getattr(message, "idempotency_key", ""),
        body=message.SerializeToString(),
        trace_id=new_trace_id(),
    )


class History:
    """All calls of all clients. Any thread may send and record."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    def send(self, channel: grpc.Channel, request: Request, *, timeout: float = 20) -> Call:
        """Send a request once, and record what came of it."""
        return self.exchange(channel, request, timeout=timeout)[0]

    def exchange(
        self, channel: grpc.Channel, request: Request, *, timeout: float = 20
    ) -> tuple[Call, Any]:
        """Send a request once and record it; return the response too, None if there is none."""
        caller = request.caller.with_metadata(("x-trace-id", request.trace_id))
        client = Client(channel, request.service, caller)
        response: Any = None
        invoked = time.monotonic()
        try:
            answer = client.send(request.rpc, request.body, timeout=timeout)
        except grpc.RpcError as error:
            outcome = not_answered(error)
        else:
            outcome, response = answered(answer), answer.message
        call = Call(
            client=threading.current_thread().name,
            request=request,
            invoked=invoked,
            returned=time.monotonic(),
            outcome=outcome,
        )
        self.record(call)
        return call, response

    def record(self, call: Call) -> None:
        """Keep a call that was made otherwise."""
        with self._lock:
            self._calls.append(call)

    @property
    def calls(self) -> Sequence[Call]:
        """Everything so far, in the order in which it returned or nearly so."""
        with self._lock:
            return tuple(self._calls)


def answered(answer: Answer) -> Outcome:
    """Say what an answer tells. A payment that is still pending tells nothing."""
    order = _seen_order(answer.message)
    payment = _seen_payment(answer.message)
    if payment is not None and payment.status == "pending":
        return Unknown("PENDING")
    reply = hashlib.sha256(answer.body).digest()
    return Answered(reply=reply, replayed=answer.replayed, order=order, payment=payment)


def not_answered(error: grpc.RpcError) -> Outcome:
    """Say what an error tells: a refusal, or nothing."""
    refusal = refusal_of(error)
    if refusal.reason in _MAYBE_DONE:
        return Unknown(f"{refusal.code.name} {refusal.reason or refusal.message}".strip())
    return Refused(
        reason=refusal.reason,
        final=refusal.code is grpc.StatusCode.FAILED_PRECONDITION,
        reply=_refusal_bytes(error),
        payment_id=_payment_of(refusal),
    )


def _payment_of(refusal: Refusal) -> str:
    return refusal.metadata.get("payment_id", "")


def _refusal_bytes(error: Any) -> bytes:
    details: bytes = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    return hashlib.sha256(details).digest()


def _seen_order(message: Any) -> SeenOrder | None:
    order = getattr(message, "order", None)
    if not isinstance(order, order_pb2.Order):
        return None
    return SeenOrder(
        id=order.id,
        status=_short(order_pb2.OrderStatus.Name(order.status), "ORDER_STATUS_"),
        version=int(order.etag),
        refunded=order.refunded_amount.minor_units,
        payment_id=order.payment_transaction_id,
    )


def _seen_payment(message: Any) -> SeenPayment | None:
    payment = getattr(message, "payment", None)
    if not isinstance(payment, payment_pb2.Payment):
        return None
    status = payment_pb2.PaymentStatus.Name(payment.status)
    return SeenPayment(id=payment.id, status=_short(status, "PAYMENT_STATUS_"))


def _short(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()

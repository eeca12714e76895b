"""A client of either service that shows everything an answer consists of."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import grpc
from google.protobuf import descriptor_pool, message_factory

from service_kit.contract.method_contracts import method_contracts
from service_kit.status import refusal_of
from tests.builders import new_request

ORDER_SERVICE_NAME: Final = "checkout.order.v1.OrderService"
PAYMENT_SERVICE_NAME: Final = "checkout.payment.v1.PaymentService"

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Caller:
    """Who calls, as the metadata of a call."""

    role: str
    id: str
    extra: Metadata = ()

    def metadata(self) -> list[tuple[str, str | bytes]]:
        """Return the metadata of a call by this caller."""
        return [("x-actor-role", self.role), ("x-actor-id", self.id), *self.extra]

    def with_metadata(self, *pairs: tuple[str, str | bytes]) -> Self:
        """Return the caller with more metadata."""
        return replace(self, extra=(*self.extra, *pairs))


ALICE = Caller("customer", "alice")
BOB = Caller("customer", "bob")
SHOP = Caller("service", "shop-backend")
OPERATIONS = Caller("operations", "olga")
ORDER_SERVICE = Caller("order_service", "order-service")


@dataclass(frozen=True)
class Answer:
    """A response, the bytes it came as, and the metadata before and after it."""

    message: Any
    body: bytes
    initial: dict[str, Any]
    trailers: dict[str, Any]

    @property
    def replayed(self) -> bool:
        """Say whether it is a stored reply."""
        return self.trailers.get("idempotency-replayed") == "true"


class Client:
    """Calls a service as somebody: `client.PayOrder(order_id=…)` returns the response.

    A request that is built from fields gets a new idempotency key unless one is among them.
    """

    def __init__(self, channel: grpc.Channel, service: str, caller: Caller) -> None:
        self._channel = channel
        self._service = service
        self._caller = caller

    def __getattr__(self, rpc: str) -> Callable[..., Any]:
        def call(request: Any = None, *, timeout: float | None = 20, **fields: Any) -> Any:
            return self.answer(rpc, request, timeout=timeout, **fields).message

        return call

    def answer(
        self, rpc: str, request: Any = None, *, timeout: float | None = 20, **fields: Any
    ) -> Answer:
        """Call the RPC and return everything that came back."""
        if request is None:
            request = new_request(rpc, **fields)
        return self.send(rpc, request.SerializeToString(), timeout=timeout)

    def send(self, rpc: str, body: bytes, *, timeout: float | None = 20) -> Answer:
        """Call the RPC with these bytes. A stream is left after its first message.

        Whatever the service refuses it with must be a reason that its contract declares.
        """
        if self._is_stream(rpc):
            with self.stream(rpc, body, timeout=timeout) as stream:
                return Answer(
                    message=next(stream), body=b"", initial=stream.initial_metadata(), trailers={}
                )
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{self._service}/{rpc}", request_serializer=None, response_deserializer=None
        )
        metadata = tuple(self._caller.metadata())
        try:
            reply, call = method.with_call(body, metadata=metadata, timeout=timeout)
        except grpc.RpcError as error:
            self._require_declared(rpc, error)
            raise
        return Answer(
            message=self._response_type(rpc).FromString(reply),
            body=reply,
            initial=dict(call.initial_metadata()),
            trailers=dict(call.trailing_metadata()),
        )

    @contextmanager
    def stream(
        self,
        rpc: str,
        body: bytes | None = None,
        *,
        timeout: float | None = 20,
        **fields: Any,
    ) -> Iterator["Responses"]:
        """Call the streaming RPC for the block; leave it at its end."""
        if body is None:
            body = new_request(rpc, **fields).SerializeToString()
        method: grpc.UnaryStreamMultiCallable[bytes, Any] = self._channel.unary_stream(
            f"/{self._service}/{rpc}",
            request_serializer=None,
            response_deserializer=self._response_type(rpc).FromString,
        )
        call = method(body, metadata=tuple(self._caller.metadata()), timeout=timeout)
        try:
            yield Responses(call, lambda error: self._require_declared(rpc, error))
        finally:
            call.cancel()

    def _require_declared(self, rpc: str, error: grpc.RpcError) -> None:
        reason = refusal_of(error).reason
        declared = method_contracts(self._service)[f"/{self._service}/{rpc}"].error_reasons
        assert not reason or reason in declared, f"{rpc} does not declare {reason}"

    def _is_stream(self, rpc: str) -> bool:
        return bool(self._descriptor(rpc).server_streaming)

    def _response_type(self, rpc: str) -> Any:
        return message_factory.GetMessageClass(self._descriptor(rpc).output_type)

    def _descriptor(self, rpc: str) -> Any:
        return descriptor_pool.Default().FindServiceByName(self._service).methods_by_name[rpc]


class Responses:
    """What a stream sends, one after the other; `check` is told of the refusal it ends with."""

    def __init__(self, call: Any, check: Callable[[grpc.RpcError], None]) -> None:
        self._call = call
        self._check = check

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            self._check(error)
            raise

    def initial_metadata(self) -> dict[str, Any]:
        """Return the metadata that came before the first message."""
        return dict(self._call.initial_metadata())

    def cancel(self) -> None:
        """Leave it."""
        self._call.cancel()

"""A stop on the way of every call, where calls are doubled, lost or kept to be sent again.

A call cannot be doubled byte by byte within a connection; here whole calls pass, with everything
they carry, so that the service sees the same caller ask the same thing again.
"""

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Self

import grpc

_THREADS: Final = 32
_PATIENCE_SECONDS: Final = 20.0
# grpc adds these itself.
_OWN_METADATA: Final = ("user-agent", "grpc-", "te", "content-type")


class Treatment(Enum):
    """What becomes of a call."""

    PASSED_ON = auto()
    # The service gets it twice at the same moment; the caller gets the answer that comes last.
    DOUBLED = auto()
    # The service gets it again after it has answered; the caller gets the second answer.
    REPEATED = auto()
    # The service answers, and the caller does not learn it.
    ANSWER_LOST = auto()


@dataclass(frozen=True)
class PassedCall:
    """A call as it came by, to be sent once more at any time."""

    method: str
    body: bytes
    metadata: tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class _Answer:
    body: bytes
    code: grpc.StatusCode
    details: str
    trailers: Any


class Forwarder(grpc.GenericRpcHandler):
    """Listens on `address`; `calls` has what came by, by the RPC's short name."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, list[PassedCall]] = defaultdict(list)
        self._treatments: dict[str, Treatment] = {}
        self._channel: grpc.Channel | None = None
        self._has_target = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS)
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), handlers=[self])

    def __enter__(self) -> Self:
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=None).wait(_PATIENCE_SECONDS)
        self._pool.shutdown(cancel_futures=True)
        if self._channel:
            self._channel.close()

    def lead_to(self, address: str) -> None:
        """Pass calls on to this `host:port`; until then they wait."""
        self._channel = grpc.insecure_channel(address)
        self._has_target.set()

    def treat(self, rpc: str, treatment: Treatment) -> None:
        """Treat the next call of this RPC so, and pass all others on."""
        self._treatments[rpc] = treatment

    def is_waiting_for(self, rpc: str) -> bool:
        """Say whether no call of this RPC has come by since it was to be treated."""
        return rpc in self._treatments

    def send_again(self, call: PassedCall) -> Any:
        """Send a call that came by once more. Return its response's bytes, or the RpcError."""
        try:
            return self._send(call, _PATIENCE_SECONDS)[0]
        except grpc.RpcError as error:
            return error

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Handle every method, whatever it is."""
        method: Any = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(
            lambda body, context: self._pass_on(str(method), body, context)
        )

    def _pass_on(self, method: str, body: bytes, context: grpc.ServicerContext) -> bytes:
        assert self._has_target.wait(_PATIENCE_SECONDS)
        metadata = tuple(
            (name, value)
            for name, value in context.invocation_metadata()
            if not name.startswith(_OWN_METADATA)
        )
        call = PassedCall(method, body, metadata)
        rpc = method.rpartition("/")[2]
        self.calls[rpc].append(call)
        treatment = self._treatments.pop(rpc, Treatment.PASSED_ON)
        # What the caller no longer waits for is over here too.
        seconds = min(context.time_remaining(), _PATIENCE_SECONDS)
        answer = self._treated(treatment, lambda: self._answer(call, seconds))
        if treatment is Treatment.ANSWER_LOST:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the line is broken")
        context.set_trailing_metadata(answer.trailers)
        if answer.code is not grpc.StatusCode.OK:
            context.abort(answer.code, answer.details)
        return answer.body

    def _treated(self, treatment: Treatment, send: Callable[[], _Answer]) -> _Answer:
        match treatment:
            case Treatment.DOUBLED:
                twin = self._pool.submit(send)
                send()
                return twin.result(_PATIENCE_SECONDS)
            case Treatment.REPEATED:
                send()
                return send()
            case _:
                return send()

    def _answer(self, call: PassedCall, seconds: float) -> _Answer:
        try:
            body, answered = self._send(call, seconds)
        except grpc.RpcError as error:
            failed: Any = error
            return _Answer(b"", failed.code(), failed.details() or "", failed.trailing_metadata())
        return _Answer(body, grpc.StatusCode.OK, "", answered.trailing_metadata())

    def _send(self, call: PassedCall, seconds: float) -> tuple[bytes, Any]:
        assert self._channel is not None
        method: Any = self._channel.unary_unary(call.method)
        body, answered = method.with_call(call.body, metadata=call.metadata, timeout=seconds)
        return body, answered

"""The way of every call: trace, place, caller, request, handler, status, one log line."""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, NoReturn, TypeAlias

import grpc

from service_kit.allowances import Allowances
from service_kit.call import Call, Principal, serving
from service_kit.contract.method_contracts import MethodContract
from service_kit.credentials.callers import Callers
from service_kit.error_table import ErrorTable, internal
from service_kit.errors import Overloaded, RecordedRefusal, RoleNotAllowed
from service_kit.interceptors.identity import on_behalf_of
from service_kit.interceptors.requests import read_request, require_small_metadata, text_metadata
from service_kit.logging import RepeatedLine, get_logger
from service_kit.patience import GRACE_SECONDS, Patience
from service_kit.places import Places
from service_kit.side_pool import OnSidePool
from service_kit.status import CALLER_GONE, Status, abort, parse, reason_of
from service_kit.stream import CallerGone, Stream
from service_kit.streams import Streams
from service_kit.tracing import TraceContext

DEADLINE_DEFAULT_SECONDS: Final = 10.0
DEADLINE_MAX_SECONDS: Final = 30.0
_YEAR_SECONDS: Final = 365 * 24 * 3600

TRACE_ID: Final = "x-trace-id"
REPLAYED: Final = "idempotency-replayed"

_NOBODY: Final = Principal(role="", id="")
# How many refusals are made beforehand, for calls without a place.
_NO_PLACES: Final = 32

# The fields of the line that every call writes.
_TOLD: Final = (
    *("method", "code", "reason", "duration_ms", "caller", "role", "on_behalf_of", "peer"),
    *("trace_id", "replayed"),
)

Messages = Iterator[bytes]
Handler = Callable[[Messages, grpc.ServicerContext], bytes]
# Sends a message; with None it ends the stream.
Send = Callable[[bytes | None], None]
StreamHandler = Callable[[Messages, grpc.ServicerContext, Send], None]
# Generic in its stubs only. None stands for an unknown method.
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class CallInterceptor(grpc.ServerInterceptor):
    """Wraps every RPC that has a contract; health and reflection pass by.

    The only place that aborts: handlers raise, `error_table` says how it is told. An exception
    without a row is a bug: it is logged with its traceback and told as INTERNAL. `callers` says
    who calls. `observe` is told of every call that is over: its status code and how many seconds
    it took.

    To gRPC every request is a stream, of which one message is read: so a call is let in, or
    refused, before anybody waits for its message, and whoever never sends one is cut off. On the
    wire the two kinds are the same.
    """

    def __init__(
        self,
        *,
        contracts: Mapping[str, MethodContract],
        error_table: ErrorTable,
        callers: Callers,
        places: Places,
        patience: Patience,
        allowances: Allowances | None = None,
        streams: Streams | None = None,
        observe: Callable[[Call, str, float], None] = lambda _call, _code, _seconds: None,
    ) -> None:
        self._contracts = contracts
        self._error_table = error_table
        self._callers = callers
        self._places = places
        # Made once, but not all with the same time to come back at.
        self._no_places = [_told(error_table, Overloaded()) for _ in range(_NO_PLACES)]
        self._allowances = allowances or Allowances({})
        self._streams = streams or Streams(limit=0)
        # Who says nothing has half of the places at most.
        self._room = patience.room(
            roomy=max(1, self._places.limit // 2), grace_seconds=GRACE_SECONDS
        )
        self._streams_room = patience.room(
            roomy=max(1, self._streams.limit // 2), grace_seconds=GRACE_SECONDS
        )
        self._observe = observe
        self._log = get_logger()
        self._line = RepeatedLine("rpc", *_TOLD)
        self._line_of_stream = RepeatedLine("rpc", *_TOLD, "entries")
        self._wrapped: dict[str, RpcHandler] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], RpcHandler],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> RpcHandler:
        """Return the wrapped handler of the method, made once."""
        method = handler_call_details.method
        if wrapped := self._wrapped.get(method):
            return wrapped
        handler = continuation(handler_call_details)
        contract = self._contracts.get(method)
        if handler is None or contract is None:
            return handler
        # Bytes come in and go out as they are: what cannot be read or written is told in there,
        # with details, rather than by grpc, without.
        if handler.response_streaming:
            serve = OnSidePool(
                self._stream(contract, handler), self._streams.pool, non_blocking=True
            )
            wrapped = grpc.stream_stream_rpc_method_handler(serve)
        else:
            wrapped = grpc.stream_unary_rpc_method_handler(self._unary(contract, handler))
        return self._wrapped.setdefault(method, wrapped)

    def _unary(self, contract: MethodContract, handler: RpcHandler) -> Handler:
        assert handler is not None
        behaviour = handler.unary_unary
        deserialize, serialize = handler.request_deserializer, handler.response_serializer
        assert behaviour is not None
        assert deserialize is not None
        assert serialize is not None

        def serve(messages: Messages, context: grpc.ServicerContext) -> bytes:
            if not self._places.take():
                if not context.is_active():
                    return b""  # told to nobody
                self._turn_away(contract, context)
            try:
                return serve_in_place(messages, context)
            finally:
                self._places.give_back()

        def serve_in_place(messages: Messages, context: grpc.ServicerContext) -> bytes:
            started = time.monotonic()
            metadata = text_metadata(context)
            call = _begin(contract, metadata, context, started)
            # At the end only: once headers are on their way, no proxy can ask another process for
            # the reply of one that has died.
            trailers = [(TRACE_ID, call.trace.trace_id)]
            status: Status | None = None
            reply = b""
            with serving(call):
                try:
                    with self._admitted(call, contract, metadata, context):
                        request = read_request(
                            messages, context, room=self._room, deserialize=deserialize
                        )
                        reply = serialize(behaviour(request, context))
                except CallerGone:
                    status = CALLER_GONE
                except Exception as error:  # noqa: BLE001 - the table knows it, or it is a bug
                    status = self._status(error, call)
            if call.replayed_from:
                trailers.append((REPLAYED, "true"))
            self._write_line(call, status, started)
            if status is not None:
                abort(context, status, trailers)
            context.set_trailing_metadata(tuple(trailers))
            return reply

        return serve

    def _stream(self, contract: MethodContract, handler: RpcHandler) -> StreamHandler:
        assert handler is not None
        behaviour = handler.unary_stream
        deserialize, serialize = handler.request_deserializer, handler.response_serializer
        assert behaviour is not None
        assert deserialize is not None
        assert serialize is not None

        def serve(messages: Messages, context: grpc.ServicerContext, send: Send) -> None:
            started = time.monotonic()
            metadata = text_metadata(context)
            call = _begin(contract, metadata, context, started)
            # As far as we are concerned; a caller's own deadline ends the stream from outside.
            call.deadline = math.inf
            trailers = ((TRACE_ID, call.trace.trace_id),)
            context.send_initial_metadata(trailers)
            status: Status | None = None
            with serving(call):
                try:
                    with (
                        self._admitted(call, contract, metadata, context),
                        self._streams.opened(context) as stream,
                    ):
                        call.stream = stream
                        request = read_request(
                            messages, context, room=self._streams_room, deserialize=deserialize
                        )
                        for response in behaviour(request, context):
                            stream.check()
                            # Waits while the reader is slow, and returns if it goes away.
                            send(serialize(response))
                            _require_reader(stream, context)
                except CallerGone:
                    status = CALLER_GONE
                except Exception as error:  # noqa: BLE001 - as for every call
                    status = self._status(error, call)
            entries = call.stream.entries_sent if call.stream else 0
            self._write_line(call, status, started, entries=entries)
            if status is not None:
                abort(context, status, trailers)
            context.set_trailing_metadata(trailers)
            send(None)

        return serve

    def _turn_away(self, contract: MethodContract, context: grpc.ServicerContext) -> NoReturn:
        """Refuse a call that has no place. It has to be cheap: there may be a great many."""
        started = time.monotonic()
        metadata = text_metadata(context)
        call = _begin(contract, metadata, context, started)
        call.principal = self._callers.claimed(metadata) or _NOBODY
        # nosemgrep: guessable-randomness - which of the pauses is told
        no_place = random.choice(self._no_places)  # noqa: S311
        call.reason = reason_of(no_place)
        self._write_line(call, no_place, started)
        abort(context, no_place, ((TRACE_ID, call.trace.trace_id),))

    def _admitted(
        self,
        call: Call,
        contract: MethodContract,
        metadata: Mapping[str, str],
        context: grpc.ServicerContext,
    ) -> AbstractContextManager[None]:
        require_small_metadata(context)
        call.principal = self._callers.principal(context, metadata)
        call.on_behalf_of = on_behalf_of(metadata, call.principal)
        if call.principal.role not in contract.roles:
            name = contract.method.rpartition("/")[2]
            raise RoleNotAllowed(role=call.principal.role, method=name)
        return self._allowances.spent(call.principal)

    def _status(self, error: Exception, call: Call) -> Status:
        status: Status | None
        try:
            stored = error.status if isinstance(error, RecordedRefusal) else None
            status = parse(stored) if stored else self._error_table.status(error)
        except Exception as bug:  # noqa: BLE001 - an exception that its own row cannot tell
            status, error = None, bug
        if status is None:
            self._log.error("rpc.failed", trace_id=call.trace.trace_id, exc_info=error)
            status = internal(call.trace.trace_id)
        call.reason = reason_of(status)
        return status

    def _write_line(
        self, call: Call, status: Status | None, started: float, *, entries: int | None = None
    ) -> None:
        code = _CODE_NAMES[status.code] if status is not None else "OK"
        seconds = time.monotonic() - started
        self._observe(call, code, seconds)
        told = (
            call.method,
            code,
            call.reason,
            round(seconds * 1000, 2),
            call.principal.id,
            call.principal.role,
            call.on_behalf_of,
            call.peer,
            call.trace.trace_id,
            call.replayed_from,
        )
        if entries is None:
            self._line.write(*told)
        else:
            self._line_of_stream.write(*told, entries)


def _told(error_table: ErrorTable, error: Exception) -> Status:
    status = error_table.status(error)
    assert status is not None
    return status


_CODE_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


def _begin(
    contract: MethodContract,
    metadata: Mapping[str, str],
    context: grpc.ServicerContext,
    started: float,
) -> Call:
    remaining = context.time_remaining()
    if remaining > _YEAR_SECONDS:  # grpc's way of saying that the client set no deadline
        remaining = DEADLINE_DEFAULT_SECONDS
    return Call(
        method=contract.method,
        principal=_NOBODY,
        on_behalf_of="",
        trace=TraceContext.from_metadata(metadata),
        deadline=started + min(remaining, DEADLINE_MAX_SECONDS),
    )


def _require_reader(stream: Stream, context: grpc.ServicerContext) -> None:
    if not context.is_active():
        # It may be we who cut it off.
        stream.check()
        raise CallerGone

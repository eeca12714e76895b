"""Calls, counted and timed: how many, of what outcome, how long, and how many right now."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service_kit.call import Call
from service_kit.contract.method_contracts import MethodContract
from service_kit.error_table import ErrorTable
from service_kit.side_pool import OnSidePool

# From an answer out of Redis to the longest deadline that anybody is given.
_BUCKETS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_REPLAY_SOURCES: Final = ("database", "redis")

# Generic in its stubs only. None stands for an unknown method.
_RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class CallMetrics:
    """Counts the calls of one server.

    `contracts` are those of its RPCs: a call of anything else makes no series. Every outcome
    that they declare is there from the start, with 0: a rise from nothing to 1 would be seen by
    nobody.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        contracts: Iterable[MethodContract],
        error_table: ErrorTable,
    ) -> None:
        self._calls = Counter(
            "checkout_rpc_calls",
            "Calls answered, by method, status code and error reason.",
            ["method", "code", "reason"],
            registry=registry,
        )
        self._durations = Histogram(
            "checkout_rpc_duration_seconds",
            "How long calls took, by method and status code.",
            ["method", "code"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._replays = Counter(
            "checkout_rpc_replays",
            "Calls answered with a stored reply, by where it was stored.",
            ["source"],
            registry=registry,
        )
        in_progress = Gauge(
            "checkout_rpc_calls_in_progress",
            "Calls being served, by method.",
            ["method"],
            registry=registry,
        )
        under_way: dict[str, set[object]] = {}
        for contract in contracts:
            name = short_name(contract.method)
            under_way[contract.method] = set()
            in_progress.labels(name).set_function(partial(len, under_way[contract.method]))
            self._calls.labels(name, "OK", "")
            for reason in contract.error_reasons:
                self._calls.labels(name, error_table.code_of(reason), reason)
        for source in _REPLAY_SOURCES:
            self._replays.labels(source)
        self.in_progress = CallsInProgress(under_way)
        # Looked up without a lock: two threads that meet a new outcome find the same children.
        self._of_outcome: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}

    def observe(self, call: Call, code: str, seconds: float) -> None:
        """Count a call that is over."""
        outcome = self._of_outcome.get((call.method, code, call.reason))
        calls, durations = outcome or self._outcome(call.method, code, call.reason)
        calls.inc()
        durations.observe(seconds)
        if call.replayed_from:
            self._replays.labels(call.replayed_from).inc()

    def _outcome(self, method: str, code: str, reason: str) -> tuple[Counter, Histogram]:
        name = short_name(method)
        outcome = self._calls.labels(name, code, reason), self._durations.labels(name, code)
        return self._of_outcome.setdefault((method, code, reason), outcome)


class CallsInProgress(grpc.ServerInterceptor):
    """Keeps the calls being served, for every method that has a set for them."""

    def __init__(self, under_way: Mapping[str, set[object]]) -> None:
        self._under_way = under_way
        self._counted: dict[str, _RpcHandler] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], _RpcHandler],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _RpcHandler:
        """Return the handler of the method, wrapped once."""
        method = handler_call_details.method
        if counted := self._counted.get(method):
            return counted
        handler = continuation(handler_call_details)
        under_way = self._under_way.get(method)
        if handler is None or under_way is None:
            return handler
        return self._counted.setdefault(method, _counted(handler, under_way))


def _counted(handler: "grpc.RpcMethodHandler[Any, Any]", under_way: set[object]) -> _RpcHandler:
    if handler.stream_unary is not None:
        return grpc.stream_unary_rpc_method_handler(
            _counting(handler.stream_unary, under_way),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
    if isinstance(handler.stream_stream, OnSidePool):
        # It returns when the stream is over, not before its first message.
        return grpc.stream_stream_rpc_method_handler(
            handler.stream_stream.wrapped(lambda behaviour: _counting(behaviour, under_way)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
    return handler


def _counting(behaviour: Callable[..., Any], under_way: set[object]) -> Callable[..., Any]:
    def serve(*arguments: Any) -> Any:
        # Come and gone in one step each: a gauge of its own would take a lock both times.
        call = object()
        under_way.add(call)
        try:
            return behaviour(*arguments)
        finally:
            under_way.remove(call)

    return serve


def short_name(method: str) -> str:
    """Return the RPC's own name: `/package.Service/Rpc` is Rpc."""
    return method.rpartition("/")[2]

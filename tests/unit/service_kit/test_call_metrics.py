"""Calls are counted by what the contract knows of them, and by nothing else."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from service_kit.call import Call, Principal
from service_kit.contract.method_contracts import MethodContract
from service_kit.error_table import ErrorTable
from service_kit.metrics.calls import CallMetrics
from service_kit.side_pool import OnSidePool
from service_kit.tracing import TraceContext
from tests.scrape import Scrape

METHOD = "/toys.v1.ToyService/MakeToy"
CONTRACT = MethodContract(
    method=METHOD,
    transitions=(),
    error_reasons=frozenset({"VALIDATION_FAILED", "INTERNAL"}),
    idempotency="by_key",
    roles=frozenset({"customer"}),
)

pytestmark = pytest.mark.requirement("FR-250")


class Counted:
    """Call metrics, and a look at them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.metrics = CallMetrics(self._registry, [CONTRACT], ErrorTable({}))

    def call(self, *, reason: str = "", code: str = "OK", seconds: float = 0.2) -> None:
        call = a_call()
        call.reason = reason
        self.metrics.observe(call, code, seconds)

    def seen(self) -> Scrape:
        return Scrape(generate_latest(self._registry).decode())


def a_call(*, replayed_from: str = "") -> Call:
    return Call(
        method=METHOD,
        principal=Principal(role="customer", id="alice"),
        on_behalf_of="",
        trace=TraceContext.new(),
        deadline=0,
        replayed_from=replayed_from,
    )


@pytest.fixture
def counted() -> Counted:
    return Counted()


def handler(behaviour: Callable[..., Any]) -> Any:
    return grpc.stream_unary_rpc_method_handler(
        behaviour, request_deserializer=None, response_serializer=None
    )


def details(method: str) -> Any:
    return SimpleNamespace(method=method, invocation_metadata=())


class TestCalls:
    def test_that_were_never_made_are_there_with_every_declared_outcome(
        self, counted: Counted
    ) -> None:
        """The rise from 0 to 1 is one that an alert can see."""
        assert sorted(
            (labels["code"], labels["reason"], value)
            for labels, value in counted.seen().series("checkout_rpc_calls_total")
        ) == [
            ("INTERNAL", "INTERNAL", 0),
            ("INVALID_ARGUMENT", "VALIDATION_FAILED", 0),
            ("OK", "", 0),
        ]

    def test_are_counted_by_outcome(self, counted: Counted) -> None:
        counted.call()
        counted.call()
        counted.call(code="INVALID_ARGUMENT", reason="VALIDATION_FAILED")
        seen = counted.seen()
        name = "checkout_rpc_calls_total"
        assert seen.value(name, method="MakeToy", code="OK", reason="") == 2
        refused = {"code": "INVALID_ARGUMENT", "reason": "VALIDATION_FAILED"}
        assert seen.value(name, method="MakeToy", **refused) == 1

    def test_fall_into_the_bucket_of_their_duration(self, counted: Counted) -> None:
        for seconds in (0.0004, 0.2, 60):
            counted.call(seconds=seconds)
        seen = counted.seen()
        buckets = {
            labels["le"]: value
            for labels, value in seen.series("checkout_rpc_duration_seconds_bucket")
        }
        assert buckets["0.0005"] == 1
        assert buckets["0.1"] == 1
        assert buckets["0.25"] == 2
        assert buckets["10.0"] == 2
        assert buckets["+Inf"] == 3
        assert seen.value("checkout_rpc_duration_seconds_count", method="MakeToy", code="OK") == 3

    def test_lose_no_count_to_each_other(self, counted: Counted) -> None:
        """Eight threads that all begin with an outcome nobody has seen."""
        together = threading.Barrier(8)

        def count() -> None:
            together.wait(20)
            for _ in range(500):
                counted.call()

        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        value = counted.seen().value(
            "checkout_rpc_calls_total", method="MakeToy", code="OK", reason=""
        )
        assert value == 4000

    def test_with_a_stored_reply_are_counted_by_its_store(self, counted: Counted) -> None:
        for source in ("redis", "redis", "database", ""):
            counted.metrics.observe(a_call(replayed_from=source), "OK", 0.1)
        seen = counted.seen()
        assert seen.value("checkout_rpc_replays_total", source="redis") == 2
        assert seen.value("checkout_rpc_replays_total", source="database") == 1


class TestCallsInProgress:
    def in_progress(self, counted: Counted) -> float | None:
        return counted.seen().value("checkout_rpc_calls_in_progress", method="MakeToy")

    def wrapped(self, counted: Counted, behaviour: Callable[..., Any], method: str = METHOD) -> Any:
        return counted.metrics.in_progress.intercept_service(
            lambda _: handler(behaviour), details(method)
        )

    def test_are_those_between_the_first_and_the_last_line(self, counted: Counted) -> None:
        within: list[float | None] = []
        wrapped = self.wrapped(counted, lambda *_: within.append(self.in_progress(counted)))
        wrapped.stream_unary(b"", None)
        assert within == [1]
        assert self.in_progress(counted) == 0

    def test_are_over_when_they_are_aborted(self, counted: Counted) -> None:
        def abort(*_: object) -> None:
            raise ZeroDivisionError

        wrapped = self.wrapped(counted, abort)
        with pytest.raises(ZeroDivisionError):
            wrapped.stream_unary(b"", None)
        assert self.in_progress(counted) == 0

    def test_that_stream_are_in_progress_until_their_end(self, counted: Counted) -> None:
        within: list[float | None] = []
        with ThreadPoolExecutor(1) as pool:
            streaming: Any = grpc.stream_stream_rpc_method_handler(
                OnSidePool(
                    lambda *_: within.append(self.in_progress(counted)), pool, non_blocking=True
                )
            )
            wrapped: Any = counted.metrics.in_progress.intercept_service(
                lambda _: streaming, details(METHOD)
            )
            wrapped.stream_stream(b"", None, lambda _message: None)
        assert (within, self.in_progress(counted)) == ([1], 0)
        assert wrapped.stream_stream.experimental_thread_pool is pool
        assert wrapped.stream_stream.experimental_non_blocking

    def test_of_a_kind_that_is_not_served_here_are_left_alone(self, counted: Counted) -> None:
        theirs: Any = grpc.unary_unary_rpc_method_handler(lambda *_: iter(()))
        interceptor = counted.metrics.in_progress
        assert interceptor.intercept_service(lambda _: theirs, details(METHOD)) is theirs

    def test_are_wrapped_once(self, counted: Counted) -> None:
        first = self.wrapped(counted, lambda *_: b"")
        assert self.wrapped(counted, lambda *_: b"") is first

    def test_of_methods_without_a_contract_are_left_alone(self, counted: Counted) -> None:
        theirs = handler(lambda *_: b"")
        interceptor = counted.metrics.in_progress
        method = "/grpc.health.v1.Health/Check"
        assert interceptor.intercept_service(lambda _: theirs, details(method)) is theirs
        assert interceptor.intercept_service(lambda _: None, details("/no/Such")) is None

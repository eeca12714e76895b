"""The load makes the calls it is told to, and says of each whether the reply was right."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_status import rpc_status

from bench.load import GRPC, Load, Outcome, run
from checkout.order.v1 import order_service_pb2 as pb
from service_kit.status import build_status, retry_info

SERVICE = "checkout.order.v1.OrderService"


class Answering:
    """A server that answers GetOrder with the id it is asked for, and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.peers: set[str] = set()
        # The code of each, and the details that come with it.
        self.refusals: list[tuple[grpc.StatusCode, Sequence[Message]]] = []
        handler = grpc.unary_unary_rpc_method_handler(
            self._answer,
            request_deserializer=pb.GetOrderRequest.FromString,
            response_serializer=pb.GetOrderResponse.SerializeToString,
        )
        self.server = grpc.server(ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(SERVICE, {"GetOrder": handler})]
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()
        self._answering = threading.Lock()

    def _answer(self, request: pb.GetOrderRequest, context: Any) -> pb.GetOrderResponse:
        with self._answering:
            refusal = self.refusals.pop() if self.refusals else None
        if refusal:
            code, details = refusal
            status = build_status(
                code, reason="NOT_NOW", message="not now", metadata={}, details=details
            )
            context.abort_with_status(rpc_status.to_status(status))
        self.asked.append(request.order_id)
        self.peers.add(context.peer())
        reply = pb.GetOrderResponse()
        reply.order.id = request.order_id
        return reply


@pytest.fixture
def answering() -> Iterator[Answering]:
    server = Answering()
    yield server
    server.server.stop(None).wait()


def a_load(server: Answering, *order_ids: str, **changes: Any) -> Load:
    requests = (pb.GetOrderRequest(order_id=order_id) for order_id in order_ids)
    told: dict[str, Any] = {
        "protocol": GRPC,
        "target": server.address,
        "method": f"/{SERVICE}/GetOrder",
        "bodies": [base64.b64encode(each.SerializeToString()).decode() for each in requests],
        "concurrency": 2,
        "reply": "checkout.order.v1.order_service_pb2:GetOrderResponse",
    }
    return Load(**{**told, **changes})


def outcome_of(load: Load) -> Outcome:
    return asyncio.run(run(load, lambda: None))


class TestALoad:
    def test_makes_each_call_once(self, answering: Answering) -> None:
        outcome = outcome_of(a_load(answering, "a", "b", "c"))
        assert sorted(answering.asked) == ["a", "b", "c"]
        assert (outcome.calls, outcome.wrong, outcome.came_back) == (3, 0, {})

    def test_counts_a_reply_that_says_something_else(self, answering: Answering) -> None:
        outcome = outcome_of(a_load(answering, "a", "b", "a", expect={"order.id": "a"}))
        assert (outcome.calls, outcome.wrong) == (3, 1)
        assert outcome.examples == ["order.id is 'b' instead of 'a'"]

    def test_counts_a_status_that_was_not_expected(self, answering: Answering) -> None:
        answering.refusals = [(grpc.StatusCode.RESOURCE_EXHAUSTED, [])]
        outcome = outcome_of(a_load(answering, "a", "b"))
        assert outcome.wrong == 1
        assert outcome.examples == ["RESOURCE_EXHAUSTED instead of OK: not now"]

    def test_counts_an_answer_where_a_refusal_was_expected(self, answering: Answering) -> None:
        answering.refusals = [(grpc.StatusCode.FAILED_PRECONDITION, [])]
        outcome = outcome_of(a_load(answering, "a", "b", code="FAILED_PRECONDITION"))
        assert outcome.wrong == 1

    def test_comes_back_when_it_is_told_to(self, answering: Answering) -> None:
        answering.refusals = [
            (grpc.StatusCode.RESOURCE_EXHAUSTED, [retry_info(1)]),
            (grpc.StatusCode.UNAVAILABLE, [retry_info(1)]),
        ]
        outcome = outcome_of(a_load(answering, "a", "b"))
        assert sorted(answering.asked) == ["a", "b"]
        assert (outcome.calls, outcome.wrong) == (2, 0)
        assert outcome.came_back == {"RESOURCE_EXHAUSTED": 1, "UNAVAILABLE": 1}
        # That is how it gets out of the process that has made the calls.
        assert Outcome(**json.loads(json.dumps(asdict(outcome)))) == outcome

    def test_collects_what_is_asked_for_in_the_order_of_the_calls(
        self, answering: Answering
    ) -> None:
        outcome = outcome_of(a_load(answering, "c", "a", "b", collect=["order.id"]))
        assert outcome.collected == [["c"], ["a"], ["b"]]

    def test_does_not_count_what_warms_up(self, answering: Answering) -> None:
        asked_before = []
        load = a_load(answering, "a", "b", "c", warm_up=1)
        outcome = asyncio.run(run(load, lambda: asked_before.extend(answering.asked)))
        assert asked_before == ["a"]
        assert outcome.calls == 2

    @pytest.mark.parametrize(("calls_per_connection", "connections"), [(32, 1), (4, 4), (3, 6)])
    def test_spreads_its_calls_over_connections(
        self, answering: Answering, calls_per_connection: int, connections: int
    ) -> None:
        order_ids = map(str, range(64))
        outcome_of(
            a_load(answering, *order_ids, concurrency=16, calls_per_connection=calls_per_connection)
        )
        assert len(answering.peers) == connections

"""Every RPC of the servicer, called as gRPC calls it, by grpcio-testing's server."""

from collections.abc import Callable
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.message import Message

from checkout.order.v1 import order_pb2
from checkout.order.v1 import order_service_pb2 as pb
from order_service.domain.audit import Actor
from order_service.rpc.servicer import OrderServicer
from service_kit.call import Call, serving
from service_kit.errors import RecordedRefusal
from service_kit.status import parse
from service_kit.stream import CallerGone, Stream
from tests.assertions import told
from tests.builders import new_key, new_order_items, new_request
from tests.integration.order_service.desk import Desk
from tests.unit.order_service.builders import ALICE, OLGA, SHOP, new_call

SERVICE = pb.DESCRIPTOR.services_by_name["OrderService"]


class Rpcs:
    """Calls the servicer as somebody; what the interceptor does is done here: it sets the call."""

    def __init__(self, desk: Desk) -> None:
        self.servicer = OrderServicer(use_cases=desk.use_cases, codec=desk.codec)
        self._server = grpc_testing.server_from_dictionary(
            {SERVICE: self}, grpc_testing.strict_real_time()
        )
        self._call = new_call()

    def __getattr__(self, rpc: str) -> Callable[..., Any]:
        # grpcio-testing runs a servicer's methods in threads of its own.
        def handle(request: Message, context: grpc.ServicerContext) -> Any:
            with serving(self._call):
                # A stream's messages are made later, when they are taken.
                return getattr(self.servicer, rpc)(request, context)

        return handle

    def call(self, rpc: str, by: Actor = ALICE, **fields: Any) -> tuple[Any, Call]:
        """Call an RPC that answers OK; return the response and the call as it was left."""
        self._call = new_call(rpc, by)
        invoked = self._server.invoke_unary_unary(
            SERVICE.methods_by_name[rpc], (), new_request(rpc, **fields), 10
        )
        response, _, code, details = invoked.termination()
        assert code is grpc.StatusCode.OK, details
        return response, self._call

    def watch(self, count: int, by: Actor, **fields: Any) -> tuple[list[Any], Call]:
        """Take the first messages of a stream; return them and the call as it was left."""
        stream = Stream()
        self._call = new_call("WatchOrderEvents", by, stream=stream)
        invoked = self._server.invoke_unary_stream(
            SERVICE.methods_by_name["WatchOrderEvents"],
            (),
            new_request("WatchOrderEvents", **fields),
            10,
        )
        messages = [invoked.take_response() for _ in range(count)]
        stream.end(CallerGone())
        invoked.termination()
        return messages, self._call


@pytest.fixture
def rpcs(desk: Desk) -> Rpcs:
    return Rpcs(desk)


def test_every_rpc_answers(rpcs: Rpcs, desk: Desk) -> None:
    def status(rpc: str, by: Actor = ALICE, **fields: Any) -> str:
        response, _ = rpcs.call(rpc, by, **fields)
        return order_pb2.OrderStatus.Name(response.order.status).removeprefix("ORDER_STATUS_")

    created, _ = rpcs.call("CreateOrder", items=new_order_items())
    order_id = created.order.id
    assert status("GetOrder", order_id=order_id) == "CREATED"
    assert status("PayOrder", order_id=order_id, payment_token="tok_visa") == "PAID"
    payment_id = desk.order(order_id).payment_id
    assert status("MarkOrderPaid", order_id=order_id, transaction_id=payment_id) == "PAID"
    assert status("FulfillOrder", SHOP, order_id=order_id) == "FULFILLED"
    assert status("ArchiveOrder", SHOP, order_id=order_id) == "ARCHIVED"
    assert status("CancelOrder", order_id=desk.place().id) == "CANCELLED"
    assert status("RefundOrder", OLGA, order_id=desk.place_paid().id) == "REFUNDED"

    history, _ = rpcs.call("ListOrderAuditEntries", SHOP, order_id=order_id)
    assert [entry.to_status for entry in history.entries] == [
        "created",
        "paid",
        "fulfilled",
        "archived",
    ]
    desk.head.sequence = history.entries[-1].sequence
    messages, call = rpcs.watch(5, SHOP, order_id=order_id)
    assert not messages[0].HasField("entry")
    assert [message.entry for message in messages[1:]] == list(history.entries)
    assert call.stream is not None
    assert call.stream.entries_sent >= 3


@pytest.mark.requirement("FR-227")
def test_pages_follow_each_other_by_their_tokens(rpcs: Rpcs, desk: Desk) -> None:
    customer = new_key()
    placed = [desk.place(by=SHOP, customer_id=customer).id for _ in range(3)]
    listed, token = [], ""
    for _ in placed:
        page, _ = rpcs.call("ListOrders", SHOP, customer_id=customer, page_size=1, page_token=token)
        listed += [order.id for order in page.orders]
        token = page.next_page_token

    assert (listed, token) == (placed[::-1], "")


@pytest.mark.requirement("FR-205")
class TestRepeat:
    def test_of_a_success_says_that_it_is_one(self, rpcs: Rpcs, desk: Desk) -> None:
        fields: dict[str, Any] = {
            "order_id": desk.place().id,
            "payment_token": "tok_visa",
            "idempotency_key": new_key(),
        }
        first, call = rpcs.call("PayOrder", **fields)
        assert call.replayed_from == ""

        again, call = rpcs.call("PayOrder", **fields)
        assert (again, call.replayed_from) == (first, "database")

    def test_of_a_refusal_raises_it_as_it_was_stored(self, rpcs: Rpcs, desk: Desk) -> None:
        request = pb.ArchiveOrderRequest(order_id=desk.place().id, idempotency_key=new_key())
        refusals = []
        for source in ("", "database"):
            with serving(new_call("ArchiveOrder", SHOP)) as call:
                with pytest.raises(RecordedRefusal) as refused:
                    rpcs.servicer.ArchiveOrder(request, None)  # type: ignore[arg-type]
                assert call.replayed_from == source
            refusals.append(refused.value.status)

        told(parse(refusals[0]), grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION")
        assert refusals[0] == refusals[1]

"""The gateway to the payment service over a real connection that breaks and comes back."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from checkout.payment.v1 import payment_service_pb2 as pb
from order_service.application.ports import NoPayment, Unknown
from order_service.domain.errors import PaymentServiceUnavailable
from order_service.domain.payment_operation import OperationKind
from order_service.gateways.payments import GrpcPayments, open_channel
from service_kit.call import serving
from tests.servers.places import free_port
from tests.unit.order_service.builders import new_call, new_operation

SERVICE = pb.DESCRIPTOR.services_by_name["PaymentService"].full_name


class Sealing:
    """A payment service that only seals, the first times with these failures."""

    def __init__(self, *codes: grpc.StatusCode) -> None:
        self._codes = list(codes)
        self.calls = 0

    @contextmanager
    def on(self, port: int) -> Iterator[None]:
        """Listen on the port."""
        server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        handler = grpc.unary_unary_rpc_method_handler(
            self._seal,
            request_deserializer=pb.SealOrderRequest.FromString,
            response_serializer=pb.SealOrderResponse.SerializeToString,
        )
        server.add_registered_method_handlers(SERVICE, {"SealOrder": handler})
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port
        server.start()
        try:
            yield
        finally:
            server.stop(0).wait()

    def _seal(
        self, request: pb.SealOrderRequest, context: grpc.ServicerContext
    ) -> pb.SealOrderResponse:
        self.calls += 1
        if self._codes:
            context.abort(self._codes.pop(0), "told to")
        return pb.SealOrderResponse()


@contextmanager
def gateway_to(port: int) -> Iterator[GrpcPayments]:
    channel = open_channel(f"127.0.0.1:{port}")
    with serving(new_call("CancelOrder")):
        yield GrpcPayments(channel, sign_ticket=lambda order: order.id)
    channel.close()


def available(payments: GrpcPayments) -> bool:
    try:
        payments.require_available()
    except PaymentServiceUnavailable:
        return False
    return True


def eventually(holds: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.requirement("FR-234")
class TestConnection:
    def test_that_cannot_be_made_is_known_before_the_first_call(self) -> None:
        with gateway_to(free_port()) as payments:
            assert eventually(lambda: not available(payments))

    def test_comes_back_by_itself_with_the_payment_service(self) -> None:
        port = free_port()
        with gateway_to(port) as payments:
            assert eventually(lambda: not available(payments))
            with Sealing().on(port):
                assert eventually(lambda: available(payments))
                assert payments.seal(new_operation(OperationKind.CANCEL)) == NoPayment()


class TestCall:
    @pytest.mark.parametrize(
        "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
    )
    def test_is_repeated_while_the_payment_service_is_unavailable_or_busy(
        self, code: grpc.StatusCode
    ) -> None:
        service, port = Sealing(*[code] * 2), free_port()
        with service.on(port), gateway_to(port) as payments:
            assert payments.seal(new_operation(OperationKind.CANCEL)) == NoPayment()

        assert service.calls == 3

    @pytest.mark.parametrize(
        ("code", "calls"),
        [
            (grpc.StatusCode.UNAVAILABLE, 3),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, 3),
            (grpc.StatusCode.ABORTED, 1),
        ],
    )
    def test_is_repeated_twice_at_most_and_for_those_only(
        self, code: grpc.StatusCode, calls: int
    ) -> None:
        service, port = Sealing(*[code] * 5), free_port()
        with service.on(port), gateway_to(port) as payments:
            answer = payments.seal(new_operation(OperationKind.CANCEL))

        assert service.calls == calls
        assert answer == Unknown(unreachable=code is grpc.StatusCode.UNAVAILABLE)

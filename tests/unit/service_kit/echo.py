"""A real server with one method that answers when it is told to."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from checkout.order.v1 import order_service_pb2
from service_kit.server import Server, Service

# Reflection describes a service by its name, so it has to be one of the contract.
NAME = "checkout.order.v1.OrderService"
LOOPBACK = "127.0.0.1"


class Echo:
    """Answers GetOrder with the id that was asked for, once `gate` is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Semaphore(0)
        self.ended = 0

    def get_order(
        self, request: order_service_pb2.GetOrderRequest, _context: grpc.ServicerContext
    ) -> order_service_pb2.GetOrderResponse:
        self.running.release()
        self.gate.wait(20)
        self.ended += 1
        response = order_service_pb2.GetOrderResponse()
        response.order.id = request.order_id
        return response

    @property
    def service(self) -> Service:
        handler = grpc.unary_unary_rpc_method_handler(
            self.get_order,
            request_deserializer=order_service_pb2.GetOrderRequest.FromString,
            response_serializer=order_service_pb2.GetOrderResponse.SerializeToString,
        )
        handlers = grpc.method_handlers_generic_handler(NAME, {"GetOrder": handler})
        return Service(NAME, lambda server: server.add_generic_rpc_handlers((handlers,)))


def a_server(echo: Echo | None = None, **changes: Any) -> Server:
    """Make a server on a free port."""
    settings: dict[str, Any] = {
        "host": LOOPBACK,
        "port": 0,
        "services": [(echo or Echo()).service],
        "interceptors": (),
        "ping": lambda: None,
        "threads": 4,
        "drain_seconds": 5.0,
    }
    return Server(**{**settings, **changes})


@contextmanager
def serving(server: Server) -> Iterator[grpc.Channel]:
    """Start the server, connect to it, and stop both."""
    server.start()
    try:
        with grpc.insecure_channel(server.address) as channel:
            yield channel
    finally:
        server.stop()


def get_order(channel: grpc.Channel) -> Any:
    """Make the method callable."""
    return channel.unary_unary(
        f"/{NAME}/GetOrder",
        request_serializer=order_service_pb2.GetOrderRequest.SerializeToString,
        response_deserializer=order_service_pb2.GetOrderResponse.FromString,
    )


def eventually(holds: Callable[[], bool], *, seconds: float = 5.0) -> bool:
    """Wait until something holds."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if holds():
            return True
        pause.wait(0.02)
    return holds()


def order(order_id: str) -> order_service_pb2.GetOrderRequest:
    """Make a request."""
    return order_service_pb2.GetOrderRequest(order_id=order_id)


def all_of(futures: Sequence[Any]) -> list[Any]:
    """Wait for calls."""
    return [future.result(timeout=10) for future in futures]

"""A real gRPC server on a free loopback port, for the length of a block."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

SERVICE = "test.Greeter"

Behaviour = Callable[[Any, grpc.ServicerContext], Any]


@contextmanager
def serving(
    behaviours: Mapping[str, Behaviour],
    *,
    request: Any = None,
    response: Any = None,
    interceptors: Sequence[grpc.ServerInterceptor] = (),
) -> Iterator[grpc.Channel]:
    """Serve `/test.Greeter/NAME` for each name and open a channel to it.

    Without message classes, requests and responses are bytes.
    """
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            behaviour,
            request_deserializer=request and request.FromString,
            response_serializer=response and response.SerializeToString,
        )
        for name, behaviour in behaviours.items()
    }
    server = grpc.server(ThreadPoolExecutor(8), interceptors=list(interceptors))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        server.stop(grace=None).wait(5)

"""An RPC that answers at once, bare or behind what every call of the services goes through."""

import argparse

import grpc
from prometheus_client import CollectorRegistry

from bench.floor.serving import THREADS, serve_bare
from checkout.order.v1 import order_service_pb2 as pb
from order_service.rpc.errors import ERROR_TABLE
from order_service.rpc.servicer import SERVICE
from service_kit import logging
from service_kit.contract.method_contracts import method_contracts
from service_kit.credentials.callers import ClaimedCallers
from service_kit.interceptors.calls import CallInterceptor
from service_kit.metrics.calls import CallMetrics
from service_kit.patience import Patience
from service_kit.places import Places
from service_kit.server import Server, Service, run_until_signal


def _add_nothing(server: grpc.Server) -> None:
    handler = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: pb.GetOrderResponse(),
        request_deserializer=pb.GetOrderRequest.FromString,
        response_serializer=pb.GetOrderResponse.SerializeToString,
    )
    generic = grpc.method_handlers_generic_handler(SERVICE, {"GetOrder": handler})
    server.add_generic_rpc_handlers([generic])


def _intercepted(port: int) -> Server:
    logging.configure("empty")
    contracts = method_contracts(SERVICE)
    calls = CallMetrics(CollectorRegistry(), contracts.values(), ERROR_TABLE)
    patience = Patience()
    interceptor = CallInterceptor(
        contracts=contracts,
        error_table=ERROR_TABLE,
        callers=ClaimedCallers(),
        places=Places(THREADS),
        patience=patience,
        observe=calls.observe,
    )
    return Server(
        host="127.0.0.1",
        port=port,
        services=[Service(SERVICE, _add_nothing)],
        interceptors=[calls.in_progress, interceptor],
        ping=lambda: None,
        patience=patience,
        threads=THREADS,
    )


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--intercepted", action="store_true")
    options = parser.parse_args()
    if options.intercepted:
        run_until_signal(_intercepted(options.port))
    else:
        serve_bare(options.port, _add_nothing)


if __name__ == "__main__":
    main()

"""What the handlers of the floor share: a bare server, one connection a thread, the log line."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

import grpc
import psycopg
from google.protobuf.timestamp_pb2 import Timestamp

# As many as the services have.
THREADS: Final = 64
# What an order's ticket is signed with.
TICKET_KEY: Final = bytes(32)

Handler = Callable[[Any, "Caller"], Any]


class Caller:
    """Who calls, as they say."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata())
        self.role = str(metadata.get("x-actor-role", ""))
        self.id = str(metadata.get("x-actor-id", ""))
        self.trace_id = str(metadata.get("x-trace-id", "")) or f"{time.time_ns():032x}"


class Connections(threading.local):
    """A connection of its own for each thread, opened at its first use."""

    def __init__(self, url: str) -> None:
        self.postgres = psycopg.connect(
            url,
            autocommit=True,
            connect_timeout=10,
            prepare_threshold=1,
            options="-c timezone=UTC -c synchronous_commit=on",
        )


def entry_values(caller: Caller) -> dict[str, Any]:
    """Make what an audit entry and its actor hold; the seals are as long, and random."""
    return {
        "trace": caller.trace_id,
        "salt": os.urandom(16),
        "seal": os.urandom(32),
        "reference": f"act_{os.urandom(16).hex()}",
    }


def timestamp(moment: datetime) -> Timestamp:
    """Encode a moment."""
    encoded = Timestamp()
    encoded.FromDatetime(moment)
    return encoded


def logged(method: str, handle: Handler) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Have a handler write one line for each call."""
    write, flush = sys.stdout.write, sys.stdout.flush

    def serve(request: Any, context: grpc.ServicerContext) -> Any:
        began = time.monotonic()
        caller = Caller(context)
        reply = handle(request, caller)
        line = {
            "event": "rpc",
            "method": method,
            "code": "OK",
            "reason": "",
            "duration_ms": round((time.monotonic() - began) * 1000, 2),
            "caller": caller.id,
            "role": caller.role,
            "on_behalf_of": "",
            "peer": "",
            "trace_id": caller.trace_id,
            "replayed": "",
            "level": "info",
            "timestamp": datetime.now(UTC).isoformat(),
        }
        write(json.dumps(line) + "\n")
        flush()
        return reply

    return serve


def serve(service: str, port: int, methods: dict[str, tuple[Any, Handler]]) -> None:
    """Serve methods, each with the type of its request, until the process is ended."""
    handlers: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(
            logged(f"/{service}/{name}", handle),
            request_deserializer=request.FromString,
            response_serializer=lambda reply: reply.SerializeToString(),
        )
        for name, (request, handle) in methods.items()
    }
    generic = grpc.method_handlers_generic_handler(service, handlers)
    serve_bare(port, lambda server: server.add_generic_rpc_handlers([generic]))


def serve_bare(port: int, add_to: Callable[[grpc.Server], None]) -> None:
    """Serve what is added, with no interceptor, until the process is ended."""
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    add_to(server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()

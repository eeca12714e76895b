"""A gRPC server from the first health check to the last running call."""

import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, Protocol, TypeVar

import grpc

from service_kit import health
from service_kit.call_pool import CallPool
from service_kit.health import HealthProbe, HealthService
from service_kit.interceptors.requests import METADATA_BYTES_MAX, REQUEST_BYTES_MAX
from service_kit.logging import get_logger
from service_kit.metrics.exposition import Exposition
from service_kit.patience import Patience
from service_kit.reflection import enable as enable_reflection
from service_kit.settings import is_loopback
from service_kit.streams import Streams
from service_kit.workers import Workers

T = TypeVar("T")

_MILLISECONDS: Final = 1000
# What the transport refuses, unread: a good deal more than what is refused with a reason.
_UNREAD_REQUEST_BYTES: Final = 4 * REQUEST_BYTES_MAX
_UNREAD_METADATA_BYTES: Final = 4 * METADATA_BYTES_MAX
CALLS_OF_A_CONNECTION_MAX: Final = 200
_HANDSHAKE_SECONDS: Final = 10
# How long a connection that is due to close waits for its calls: as long as the longest call.
_CONNECTION_GRACE_SECONDS: Final = 30
# How long after the last call its reply may be on the way.
_LINGER_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.1
# How late a signal may be noticed that did not interrupt the wait for it.
_SIGNAL_SECONDS: Final = 1.0
# What cancelled calls get after the drain to leave the server.
_CANCELLED_SECONDS: Final = 5


class CannotListen(Exception):
    """The server cannot listen on its address."""

    def __init__(self, *, address: str, problem: str) -> None:
        super().__init__(f"cannot listen on {address}: {problem}")
        self.address = address


class PortTaken(CannotListen):
    """Somebody else listens on the port. `variable` is the setting that says which."""

    def __init__(self, *, address: str, variable: str = "") -> None:
        problem = "the port is taken by another process"
        if variable:
            problem += f"; {variable} chooses another"
        super().__init__(address=address, problem=problem)


class NotLoopback(CannotListen):
    """The address is reachable from other machines and nothing encrypts what they send."""

    def __init__(self, *, address: str) -> None:
        problem = "it is not a loopback address; without TLS only --insecure allows it"
        super().__init__(address=address, problem=problem)


@dataclass(frozen=True)
class Service:
    """A gRPC service to offer: its full name, and what registers its servicer."""

    name: str
    add_to: Callable[[grpc.Server], None]


class Server:
    """Serves, tells its health, and drains.

    `ping` returns if the database answers and raises if it does not. `threads` is how many calls
    are served at the same time; there are a few more, to refuse others. Beyond so many
    `connections` there is no further one, not for health either. `workers` run while it
    serves. `patience` is the one that the interceptors have. The drain ends `streams` at once.
    Without `credentials` it serves in plaintext, beyond loopback only if `insecure`. A
    `shared_port` it has together with other processes of the same service. `metrics`
    are told from before the first call until after the last one. `closers` run last, after
    whatever may need what they close.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        shared_port: bool = False,
        services: Sequence[Service],
        interceptors: Sequence[grpc.ServerInterceptor],
        ping: Callable[[], None],
        workers: Workers | None = None,
        streams: Streams | None = None,
        patience: Patience | None = None,
        metrics: Exposition | None = None,
        closers: Sequence[Callable[[], None]] = (),
        threads: int = 64,
        connections: int = 500,
        drain_seconds: float = 10.0,
        credentials: grpc.ServerCredentials | None = None,
        insecure: bool = False,
        reflection: bool = True,
        max_connection_age_seconds: int = 30 * 60,
        max_connection_idle_seconds: int = 5 * 60,
    ) -> None:
        if not insecure and credentials is None and not is_loopback(host):
            raise NotLoopback(address=_joined(host, port))
        self._host = _address_of(host)
        self.port = port
        self._credentials = credentials
        self.workers = workers or Workers([])
        self._streams = streams or Streams(limit=0)
        self._patience = patience or Patience()
        self._metrics = metrics
        self._closers = closers
        self._drain_seconds = drain_seconds
        self._log = get_logger()
        names = [service.name for service in services]
        self._health = HealthService(names)
        self._probe = HealthProbe(ping, self._health)
        self._pool = CallPool(threads, thread_name_prefix="rpc")
        self._server = grpc.server(
            self._pool,
            interceptors=list(interceptors),
            options=[
                # Without this a second server takes half of the connections of a port in silence.
                ("grpc.so_reuseport", int(shared_port)),
                *_options(connections, max_connection_age_seconds, max_connection_idle_seconds),
            ],
        )
        for service in services:
            service.add_to(self._server)
        self._health.add_to(self._server, self._patience)
        if reflection:
            enable_reflection(self._server, [*names, health.SERVICE_NAME], self._patience)

    @property
    def address(self) -> str:
        """Host and port, the real one once the server listens."""
        return _joined(self._host, self.port)

    @property
    def metrics_address(self) -> str:
        """Host and port of the metrics, the real one once it listens; empty without any."""
        return self._metrics.address if self._metrics else ""

    def start(self) -> None:
        """Check the health, listen and serve. Raises CannotListen, PortTaken."""
        self._listen()
        self._tell_metrics()
        self._probe.start()
        self._patience.start()
        self._server.start()
        self.workers.start()
        self._log.info(
            "listening",
            address=self.address,
            pid=os.getpid(),
            metrics=self.metrics_address or "off",
            tls=self._credentials is not None,
        )

    def stop(self) -> None:
        """Refuse new calls, let running ones finish within the drain time, close the rest."""
        self._health.enter_graceful_shutdown()
        self._probe.stop()
        ended = self._server.stop(grace=self._drain_seconds)
        self._log.info("draining", address=self.address)
        self._streams.drain()
        # Both at once: what a worker has begun may take as long as a call.
        self.workers.stop(self._drain_seconds)
        self._wait_for_calls(ended)
        self._patience.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._streams.close()
        if self._metrics:
            self._metrics.stop()
        closers, self._closers = self._closers, ()
        for close in closers:
            close()
        self._log.info("stopped", address=self.address)

    def _wait_for_calls(self, ended: threading.Event) -> None:
        # grpc waits for connections too: one whose client is silent would take all the time.
        give_up_at = time.monotonic() + self._drain_seconds
        while not ended.wait(_LOOK_SECONDS) and time.monotonic() < give_up_at:
            pools = (self._pool, self._streams.pool)
            if min(pool.idle_seconds() for pool in pools) > _LINGER_SECONDS:
                self._server.stop(grace=0)
                break
        ended.wait(_CANCELLED_SECONDS)

    def _listen(self) -> None:
        try:
            if self._credentials is None:
                # nosemgrep: plaintext-listener - the settings allowed it
                self.port = self._server.add_insecure_port(self.address)
            else:
                self.port = self._server.add_secure_port(self.address, self._credentials)
        except RuntimeError:
            # grpc does not say why; trying once more does.
            raise _cannot_listen(self._host, self.port) from None

    def _tell_metrics(self) -> None:
        if self._metrics is None:
            return
        try:
            self._metrics.start()
        except OSError as error:
            address, variable = self._metrics.address, self._metrics.variable
            raise _refused(address, error, variable=variable) from None


class Runs(Protocol):
    """What can be started and stopped."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End, also when it has begun only half."""


def wait_for(queue: "SimpleQueue[T]") -> T:
    """Return what a signal's handler, or a thread, puts into the queue. For the main thread only.

    A signal that comes just before the wait, or to another thread, does not end it: its handler
    runs only once the main thread does something. So it does, every now and then.
    """
    while True:
        with suppress(Empty):
            return queue.get(timeout=_SIGNAL_SECONDS)


def run_until_signal(app: Runs, *, wait_for_end: Callable[[], None] | None = None) -> None:
    """Start the app, wait for SIGTERM or SIGINT, stop it. For the main thread only.

    What `wait_for_end` waits for is as good as a signal.
    """
    # A handler runs between any two instructions of this thread: only a queue whose `put` may
    # interrupt its own `get` is safe here, and an Event is not.
    signals: SimpleQueue[int] = SimpleQueue()
    previous = {
        number: signal.signal(number, lambda received, _frame: signals.put(received))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    if wait_for_end:

        def watch() -> None:
            wait_for_end()
            signals.put(signal.SIGTERM)

        threading.Thread(target=watch, daemon=True).start()
    try:
        try:
            app.start()
            wait_for(signals)
        finally:
            app.stop()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _options(
    connections: int, max_connection_age_seconds: int, max_connection_idle_seconds: int
) -> list[tuple[str, int]]:
    return [
        ("grpc.max_allowed_incoming_connections", connections),
        # Who connects and says nothing is let go.
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_SECONDS * _MILLISECONDS),
        ("grpc.max_receive_message_length", _UNREAD_REQUEST_BYTES),
        # Between the two sizes grpc would refuse some and not others.
        ("grpc.max_metadata_size", _UNREAD_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _UNREAD_METADATA_BYTES),
        ("grpc.max_concurrent_streams", CALLS_OF_A_CONNECTION_MAX),
        # Clients may ping every 5 s: the order service does so every 10 s, most not at all.
        ("grpc.http2.min_ping_interval_without_data_ms", 5 * _MILLISECONDS),
        ("grpc.keepalive_permit_without_calls", 1),
        # Ask connections that went quiet whether they are still there.
        ("grpc.keepalive_time_ms", 60 * _MILLISECONDS),
        ("grpc.keepalive_timeout_ms", 10 * _MILLISECONDS),
        # Who has no call under way for long leaves the connection to somebody else.
        ("grpc.max_connection_idle_ms", max_connection_idle_seconds * _MILLISECONDS),
        # Clients look the name up again and find new servers.
        ("grpc.max_connection_age_ms", max_connection_age_seconds * _MILLISECONDS),
        ("grpc.max_connection_age_grace_ms", _CONNECTION_GRACE_SECONDS * _MILLISECONDS),
    ]


def reserved(host: str, port: int) -> socket.socket:
    """Hold a port, 0 for any free one, on which servers with a shared port then listen.

    Raises CannotListen, PortTaken.
    """
    host = _address_of(host)
    try:
        # Shared ports are shared with whoever asks; who does not is told of everybody.
        _bound(host, port).close()
        holder = _bound(host, port, socket.SO_REUSEPORT)
    except OSError as error:
        raise _refused(_joined(host, port), error) from None
    # From now on it is in the way of another one that is not listened on yet either.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return holder


def _bound(host: str, port: int, *options: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        for option in (socket.SO_REUSEADDR, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _cannot_listen(host: str, port: int) -> CannotListen:
    address = _joined(host, port)
    try:
        _bound(host, port).close()
    except OSError as error:
        return _refused(address, error)
    return CannotListen(address=address, problem="grpc refused it")


def _refused(address: str, error: OSError, *, variable: str = "") -> CannotListen:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(address=address, variable=variable)
    problem = error.strerror or "unknown"
    if variable:
        problem += f"; {variable} chooses another port"
    return CannotListen(address=address, problem=problem)


def _address_of(host: str) -> str:
    # grpc is content with either address of localhost; the other may be somebody else's.
    return "127.0.0.1" if host == "localhost" else host


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

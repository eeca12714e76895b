"""Where Prometheus reads: http://127.0.0.1:PORT/metrics, one reader at a time."""

import contextlib
import copy
import socket
import socketserver
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from service_kit.logging import get_logger
from service_kit.settings import ServiceSettings

LOOPBACK: Final = "127.0.0.1"
PATH: Final = "/metrics"

# A reader that sends or takes nothing for so long is left.
_READER_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 2.0


class Exposition:
    """Tells a registry over HTTP, on loopback only, on a thread of its own.

    `variable` is the setting that the port comes from; port 0 takes any free one.
    """

    def __init__(self, registry: CollectorRegistry, *, port: int, variable: str) -> None:
        self._registry = registry
        self.port = port
        self.variable = variable
        self._http: _HttpServer | None = None
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._is_stopping = False

    @property
    def address(self) -> str:
        """Host and port, the real one once it listens."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Listen and answer. Raises OSError."""
        self._http = _HttpServer((LOOPBACK, self.port), self._registry)
        self.port = self._http.server_address[1]
        self._thread.start()

    def stop(self) -> None:
        """Answer who is being answered, at most two seconds long, and nobody more."""
        if self._http is None or self._is_stopping:
            return
        self._is_stopping = True
        # Whoever waits for a reader gets one.
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1):
            pass
        self._thread.join(_STOP_SECONDS)
        self._http.server_close()

    def _serve(self) -> None:
        assert self._http is not None
        while not self._is_stopping:
            self._http.handle_request()


def exposition(registry: CollectorRegistry, settings: ServiceSettings) -> Exposition | None:
    """Make the exposition that the settings ask for; None if it is off."""
    if settings.metrics_port is None:
        return None
    variable = settings.variable("metrics_port")
    return Exposition(registry, port=settings.metrics_port, variable=variable)


class _HttpServer(socketserver.TCPServer):
    """Serves one connection after the other."""

    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry) -> None:
        self.registry = _WithoutBirthdays(registry)
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Leave a reader that went away."""


class _Handler(BaseHTTPRequestHandler):
    """Answers GET /metrics."""

    server: _HttpServer
    timeout = _READER_SECONDS
    server_version = "checkout"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with every metric, or 404 for another path."""
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            body = generate_latest(self.server.registry)
        except Exception as error:  # noqa: BLE001 - the thread must outlive a bug
            get_logger().error("metrics.failed", exc_info=error)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Write nothing: every few seconds somebody reads."""


class _WithoutBirthdays(Collector):
    """A registry without the time at which each series began, which doubles them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Return every metric."""
        for metric in self._registry.collect():
            kept = copy.copy(metric)
            kept.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield kept

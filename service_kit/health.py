"""Whether the server can serve: grpc.health.v1, decided by the database alone.

A Redis or a peer that is down is no reason to take this server out of rotation: it still
answers, and would take the others down with it.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from service_kit.logging import get_logger
from service_kit.patience import GRACE_FOR_ALL_SECONDS, Patience
from service_kit.plain_calls import on_request
from service_kit.side_pool import OnSidePool

SERVICE_NAME: Final = "grpc.health.v1.Health"
OVERALL: Final = ""

# Nobody has to say who they are, so some of the threads may wait for callers that never ask:
# as long as a probe waits for its answer. The others are free again so soon that 500 such callers
# a second keep nobody waiting.
_THREADS: Final = 64
_THREADS_THAT_WAIT: Final = 8
_REQUEST_SECONDS: Final = 1.0
# List is younger than the published types.
_untyped: Final[Any] = health_pb2
_Response = health_pb2.HealthCheckResponse
# Called with a response to send it, with None to end the stream.
_Send = Callable[[_Response | None], None]


class HealthService:
    """Answers Check, List and Watch for the server as a whole ("") and each service's name.

    Not the library's servicer: that has no List, keeps watchers open while the server drains,
    and shares the threads of the calls, so that a busy server looks like a dead one.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = (OVERALL, *names)
        self._status: int = _Response.NOT_SERVING
        self._is_shut_down = False
        self._watchers: dict[_Send, str] = {}
        # Also held while sending, so that watchers see changes in their order.
        self._lock = threading.RLock()

    def add_to(self, server: grpc.Server, patience: Patience) -> None:
        """Register the service."""
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="health")
        room = patience.room(
            seconds=_REQUEST_SECONDS,
            roomy=_THREADS_THAT_WAIT,
            grace_seconds=GRACE_FOR_ALL_SECONDS,
        )
        one_name = health_pb2.HealthCheckRequest.FromString
        nothing = _untyped.HealthListRequest.FromString
        handlers: dict[str, Any] = {
            "Check": grpc.stream_unary_rpc_method_handler(
                OnSidePool(on_request(self._check, one_name, room), pool),
                response_serializer=_Response.SerializeToString,
            ),
            "List": grpc.stream_unary_rpc_method_handler(
                OnSidePool(on_request(self._list, nothing, room), pool),
                response_serializer=_untyped.HealthListResponse.SerializeToString,
            ),
            "Watch": grpc.stream_stream_rpc_method_handler(
                OnSidePool(on_request(self._watch, one_name, room), pool, non_blocking=True),
                response_serializer=_Response.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),)
        )

    @property
    def is_serving(self) -> bool:
        """Say what callers are told."""
        return self._status == _Response.SERVING

    def set_serving(self, *, serving: bool) -> None:
        """Tell all names' status; nothing more after the shutdown."""
        status: int = _Response.SERVING if serving else _Response.NOT_SERVING
        with self._lock:
            if self._is_shut_down or status == self._status:
                return
            self._status = status
            for send, name in list(self._watchers.items()):
                if name in self._names:
                    send(_Response(status=status))

    def enter_graceful_shutdown(self) -> None:
        """Answer NOT_SERVING from now on and end the watching, which would delay the drain."""
        with self._lock:
            self.set_serving(serving=False)
            self._is_shut_down = True
            watchers, self._watchers = list(self._watchers), {}
            for send in watchers:
                send(None)

    def _check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> _Response:
        if request.service not in self._names:
            # The health protocol has no details, and its calls pass our interceptor by.
            context.set_code(grpc.StatusCode.NOT_FOUND)  # nosemgrep: abort-elsewhere
            context.set_details("no such service")  # nosemgrep: abort-elsewhere
            return _Response()
        return _Response(status=self._status)

    def _list(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        response = _untyped.HealthListResponse()
        for name in self._names:
            response.statuses[name].status = self._status
        return response

    def _watch(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: _Send,
    ) -> None:
        # The protocol answers SERVICE_UNKNOWN and goes on: the service may appear later.
        known = request.service in self._names
        with self._lock:
            status = self._status if known else _Response.SERVICE_UNKNOWN
            send_response_callback(_Response(status=status))
            if self._is_shut_down:
                send_response_callback(None)
                return
            self._watchers[send_response_callback] = request.service

        def forget() -> None:
            # Without the lock: grpc calls this on the thread that completes every send, and
            # somebody may hold the lock and wait for a send.
            self._watchers.pop(send_response_callback, None)

        if not context.add_callback(forget):  # the watcher has gone already
            forget()


class HealthProbe:
    """Asks the database every second and tells the health service.

    `ping` returns if the database answers and raises if it does not.
    """

    def __init__(
        self, ping: Callable[[], None], health: HealthService, *, interval_seconds: float = 1.0
    ) -> None:
        self._ping = ping
        self._health = health
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health-probe", daemon=True)
        self._log = get_logger()

    def check(self) -> None:
        """Ask once."""
        try:
            self._ping()
        except Exception as error:  # noqa: BLE001 - whatever it is, the database did not answer
            self._tell(serving=False, reason=type(error).__name__)
        else:
            self._tell(serving=True, reason="")

    def start(self) -> None:
        """Ask now, and from now on every interval."""
        self.check()
        self._thread.start()

    def stop(self) -> None:
        """Stop asking and wait for the last answer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _tell(self, *, serving: bool, reason: str) -> None:
        if serving != self._health.is_serving:
            if serving:
                self._log.info("health.serving")
            else:
                self._log.warning("health.not_serving", error=reason)
        self._health.set_serving(serving=serving)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            self.check()

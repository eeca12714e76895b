"""A server from the first health check to the last running call."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from deploy.authority import Authority
from service_kit.server import (
    CannotListen,
    NotLoopback,
    PortTaken,
    Server,
    _cannot_listen,
    reserved,
    run_until_signal,
)
from tests.stalled_line import stalled_line
from tests.unit.service_kit.echo import (
    LOOPBACK,
    Echo,
    a_server,
    all_of,
    eventually,
    get_order,
    order,
    serving,
)

EVERYWHERE = "0.0.0.0"  # noqa: S104 - to see it refused, and bound for a moment on purpose


class TestStart:
    def test_serves_on_a_free_port_and_says_where(self) -> None:
        server = a_server()
        with capture_logs() as log, serving(server) as channel:
            assert get_order(channel)(order("ord_1"), timeout=5).order.id == "ord_1"
        assert server.port != 0
        [listening] = [line for line in log if line["event"] == "listening"]
        assert listening["address"] == f"127.0.0.1:{server.port}"
        assert listening["pid"] == os.getpid()

    def test_asks_the_database_before_it_serves(self) -> None:
        pings: list[int] = []
        server = a_server(ping=lambda: pings.append(1))
        with serving(server):
            assert pings

    def test_says_which_port_is_taken(self) -> None:
        with socket.socket() as other:
            other.bind((LOOPBACK, 0))
            other.listen()
            port = other.getsockname()[1]
            server = a_server(port=port)
            with pytest.raises(
                PortTaken, match=rf"127\.0\.0\.1:{port}: the port is taken"
            ) as refused:
                server.start()
            assert refused.value.address == f"127.0.0.1:{port}"
            server.stop()

    def test_does_not_share_the_port_of_another_server(self) -> None:
        with serving(a_server()) as _channel:
            first = a_server()
            with serving(first):
                second = a_server(port=first.port)
                with pytest.raises(PortTaken):
                    second.start()
                second.stop()

    @pytest.mark.requirement("FR-135")
    @pytest.mark.parametrize("host", ["localhost", "::1", EVERYWHERE, "::"])
    def test_shares_a_port_that_is_reserved_for_it_and_its_like_alone(self, host: str) -> None:
        with reserved(host, 0) as holder:
            port = holder.getsockname()[1]
            with pytest.raises(PortTaken):
                reserved(host, port)
            shared = partial(a_server, host=host, port=port, insecure=True, shared_port=True)
            with serving(shared()) as channel, serving(shared()):
                assert get_order(channel)(order("ord_1"), timeout=5)
                with pytest.raises(PortTaken):
                    reserved(host, port)
                alone = a_server(host=host, port=port, insecure=True)
                with pytest.raises(PortTaken):
                    alone.start()
                alone.stop()

    def test_says_why_else_it_cannot_listen(self) -> None:
        """192.0.2.0/24 is documentation's (RFC 5737): no machine has an address in it."""
        server = a_server(host="192.0.2.1", insecure=True)
        with pytest.raises(CannotListen, match=r"192\.0\.2\.1:0: Cannot assign") as refused:
            server.start()
        assert not isinstance(refused.value, PortTaken)
        server.stop()

    def test_says_so_if_grpc_alone_refuses(self) -> None:
        """The port may have become free between grpc's attempt and ours."""
        assert str(_cannot_listen(LOOPBACK, 0)) == "cannot listen on 127.0.0.1:0: grpc refused it"

    @pytest.mark.requirement("FR-301")
    @pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.1"])
    def test_threat_01_refuses_to_listen_beyond_loopback_unless_told(self, host: str) -> None:
        with pytest.raises(NotLoopback, match="--insecure"):
            a_server(host=host)

    def test_listens_beyond_loopback_if_told(self) -> None:
        with serving(a_server(host=EVERYWHERE, insecure=True)) as channel:
            assert get_order(channel)(order("ord_1"), timeout=5)

    @pytest.mark.requirement("FR-301", "FR-302")
    def test_threat_01_listens_beyond_loopback_over_tls_and_answers_nothing_in_plaintext(
        self,
    ) -> None:
        authority = Authority()
        own = authority.issue("echo", hosts=["127.0.0.1"])
        credentials = grpc.ssl_server_credentials([(own.key, own.certificate)])
        server = a_server(host=EVERYWHERE, credentials=credentials)
        with capture_logs() as log, serving(server) as plaintext:
            with pytest.raises(grpc.RpcError) as refused:
                get_order(plaintext)(order("ord_1"), timeout=20)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            trusting = grpc.ssl_channel_credentials(authority.certificate)
            address = f"127.0.0.1:{server.port}"
            with grpc.secure_channel(address, trusting) as channel:
                assert get_order(channel)(order("ord_1"), timeout=5).order.id == "ord_1"
        assert [line["tls"] for line in log if line["event"] == "listening"] == [True]

    @pytest.mark.parametrize("host", ["localhost", "::1"])
    def test_takes_loopback_by_any_name(self, host: str) -> None:
        with serving(a_server(host=host)) as channel:
            assert get_order(channel)(order("ord_1"), timeout=5)

    def test_runs_interceptors(self) -> None:
        seen: list[str] = []

        class Spy(grpc.ServerInterceptor):
            def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
                seen.append(handler_call_details.method)
                return continuation(handler_call_details)

        with serving(a_server(interceptors=[Spy()])) as channel:
            get_order(channel)(order("ord_1"), timeout=5)
        assert seen == ["/checkout.order.v1.OrderService/GetOrder"]


class TestStop:
    def test_lets_running_calls_finish_and_refuses_new_ones(self) -> None:
        echo, closed = Echo(), list[int]()
        echo.gate.clear()
        server = a_server(echo, drain_seconds=20, closers=[lambda: closed.append(echo.ended)])
        server.start()
        with grpc.insecure_channel(server.address) as channel:
            running = [get_order(channel).future(order(f"ord_{n}"), timeout=20) for n in range(3)]
            assert eventually(lambda: echo.running._value == 3)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            assert eventually(lambda: _is_refused(server))
            assert closed == []
            echo.gate.set()
            assert [reply.order.id for reply in all_of(running)] == ["ord_0", "ord_1", "ord_2"]
            stopping.join(10)
        assert closed == [echo.ended]

    def test_gives_up_on_calls_that_outlast_the_drain(self) -> None:
        echo = Echo()
        echo.gate.clear()
        server = a_server(echo, drain_seconds=0.2)
        server.start()
        with grpc.insecure_channel(server.address) as channel:
            stuck = get_order(channel).future(order("ord_1"), timeout=20)
            assert eventually(lambda: echo.running._value == 1)
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 8
            assert stuck.exception(timeout=5) is not None
        echo.gate.set()

    def test_does_not_wait_for_a_connection_whose_client_is_silent(self) -> None:
        """Its machine sleeps, or the network lost it: no call is running."""
        server = a_server(drain_seconds=20)
        server.start()
        with (
            stalled_line(server.address) as line,
            grpc.insecure_channel(line.address) as channel,
        ):
            assert get_order(channel)(order("ord_1"), timeout=5)
            line.stall()
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 10

    def test_waits_for_a_call_however_silent_its_client_is(self) -> None:
        echo = Echo()
        echo.gate.clear()
        server = a_server(echo, drain_seconds=20)
        server.start()
        with (
            stalled_line(server.address) as line,
            grpc.insecure_channel(line.address) as channel,
        ):
            call = get_order(channel).future(order("ord_1"), timeout=20)
            assert eventually(lambda: echo.running._value == 1)
            line.stall()
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            stopping.join(1.5)
            assert stopping.is_alive()
            echo.gate.set()
            line.flow()
            assert call.result(timeout=10).order.id == "ord_1"
            stopping.join(10)

    def test_tells_the_health_before_anything_else(self) -> None:
        echo = Echo()
        echo.gate.clear()
        server = a_server(echo, drain_seconds=20)
        server.start()
        with grpc.insecure_channel(server.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            changes = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
            assert next(changes).status == health_pb2.HealthCheckResponse.SERVING
            running = get_order(channel).future(order("ord_1"), timeout=20)
            assert eventually(lambda: echo.running._value == 1)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            assert next(changes).status == health_pb2.HealthCheckResponse.NOT_SERVING
            echo.gate.set()
            assert running.result(timeout=5).order.id == "ord_1"
            stopping.join(10)

    def test_closes_in_the_order_given_and_only_once(self) -> None:
        closed: list[str] = []
        server = a_server(
            closers=[lambda: closed.append("memory"), lambda: closed.append("database")]
        )
        server.start()
        server.stop()
        server.stop()
        assert closed == ["memory", "database"]


class TestRunUntilSignal:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_stops_the_app_and_gives_the_handlers_back(self, number: signal.Signals) -> None:
        before = signal.getsignal(number)
        app = App(on_start=lambda: signal.raise_signal(number))
        run_until_signal(app)
        assert app.told == ["start", "stop"]
        assert signal.getsignal(number) is before

    @pytest.mark.requirement("FR-128")
    def test_stops_for_a_signal_that_does_not_interrupt_its_wait(self) -> None:
        """As one that comes just before the wait, or that the kernel gives to another thread."""

        def elsewhere() -> None:
            time.sleep(0.2)
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

        app = App(on_start=threading.Thread(target=elsewhere).start)
        # Were it lost, the next one would end the wait all the same, much too late.
        late = threading.Timer(10, os.kill, [os.getpid(), signal.SIGTERM])
        late.start()
        began = time.monotonic()
        try:
            run_until_signal(app)
        finally:
            late.cancel()
        assert time.monotonic() - began < 9

    def test_stops_what_has_started_only_half(self) -> None:
        def fail() -> None:
            raise PortTaken(address="127.0.0.1:1")

        app = App(on_start=fail)
        with pytest.raises(PortTaken):
            run_until_signal(app)
        assert app.told == ["start", "stop"]

    def test_drains_a_process_on_sigterm(self) -> None:
        program = (
            "from tests.unit.service_kit.echo import a_server\n"
            "from service_kit.server import run_until_signal\n"
            "from service_kit.logging import configure\n"
            "configure('shop', json=True)\n"
            "run_until_signal(a_server(closers=[lambda: print('closed', flush=True)]))\n"
        )
        root = Path(__file__).parents[3]
        paths = os.pathsep.join([str(root), str(root / "generated")])
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        assert process.stdout is not None
        said: list[str] = []
        while not said or '"listening"' not in said[-1]:
            said.append(process.stdout.readline())
            assert said[-1], said
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        events = [
            line.partition('"event":"')[2].partition('"')[0] or line for line in rest.split("\n")
        ]
        assert events == ["draining", "closed", "stopped", ""]


class App:
    """Notes what it is told."""

    def __init__(self, *, on_start: Any) -> None:
        self.told: list[str] = []
        self._on_start = on_start

    def start(self) -> None:
        self.told.append("start")
        self._on_start()

    def stop(self) -> None:
        self.told.append("stop")


def _is_refused(server: Server) -> bool:
    with grpc.insecure_channel(server.address) as channel:
        try:
            get_order(channel)(order("ord_x"), timeout=0.5)
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.UNAVAILABLE)
    return False

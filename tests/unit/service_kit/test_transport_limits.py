"""What a server takes of a connection and of a call before anybody looks at the message."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from checkout.order.v1 import order_service_pb2
from service_kit.contract.method_contracts import method_contracts
from service_kit.credentials.callers import ClaimedCallers
from service_kit.error_table import ErrorTable
from service_kit.interceptors.calls import CallInterceptor
from service_kit.interceptors.requests import METADATA_BYTES_MAX, REQUEST_BYTES_MAX
from service_kit.patience import Patience
from service_kit.places import Places
from service_kit.server import CALLS_OF_A_CONNECTION_MAX, Server
from tests.assertions import refused
from tests.client import ALICE
from tests.unit.service_kit.echo import LOOPBACK, NAME, Echo, a_server, eventually

pytestmark = pytest.mark.requirement("FR-354")

CONNECTIONS = 3
INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


class Measured(Echo):
    """Also says how long the metadata of a call was."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata_bytes = 0

    def get_order(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.metadata_bytes = sum(len(k) + len(v) for k, v in context.invocation_metadata())
        return super().get_order(request, context)


@pytest.fixture
def echo() -> Measured:
    return Measured()


@pytest.fixture
def server(echo: Echo) -> Iterator[Server]:
    patience = Patience()
    calls = CallInterceptor(
        contracts=method_contracts(NAME),
        error_table=ErrorTable({}),
        callers=ClaimedCallers(),
        places=Places(4),
        patience=patience,
    )
    server = a_server(
        echo, interceptors=[calls], patience=patience, connections=CONNECTIONS, drain_seconds=0.2
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with connection(server) as channel:
        yield channel


def connection(server: Server) -> grpc.Channel:
    """Connect, and share the connection with nobody. It is made by the first call."""
    return grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])


def call(channel: grpc.Channel, body: bytes = b"", *more: tuple[str, str | bytes]) -> None:
    method: Any = channel.unary_unary(f"/{NAME}/GetOrder")
    method(body, metadata=(*ALICE.metadata(), *more), timeout=10)


class TestMetadata:
    def test_threat_08_may_be_8_kb_and_not_a_byte_more(
        self, channel: grpc.Channel, echo: Measured
    ) -> None:
        call(channel, b"", ("x", ""))
        left = METADATA_BYTES_MAX - echo.metadata_bytes
        call(channel, b"", ("x", "n" * left))
        assert echo.metadata_bytes == METADATA_BYTES_MAX
        with refused(INVALID, "VALIDATION_FAILED") as refusal:
            call(channel, b"", ("x", "n" * (left + 1)))
        assert refusal.violations == {"metadata": f"must be at most {METADATA_BYTES_MAX} bytes"}

    def test_threat_08_that_is_binary_counts_as_well(
        self, channel: grpc.Channel, echo: Measured
    ) -> None:
        with refused(INVALID, "VALIDATION_FAILED"):
            call(channel, b"", ("x-bin", b"\x00" * METADATA_BYTES_MAX))
        assert echo.ended == 0

    def test_threat_08_that_is_far_too_long_gets_no_further_than_the_transport(
        self, channel: grpc.Channel, echo: Measured
    ) -> None:
        with pytest.raises(grpc.RpcError) as ended:
            call(channel, b"", ("x", "n" * 4 * METADATA_BYTES_MAX))
        assert code(ended.value) is EXHAUSTED
        assert echo.ended == 0


class TestARequest:
    def test_threat_08_may_be_64_kb_and_not_a_byte_more(
        self, channel: grpc.Channel, echo: Measured
    ) -> None:
        call(channel, request(REQUEST_BYTES_MAX))
        with refused(INVALID, "VALIDATION_FAILED") as refusal:
            call(channel, request(REQUEST_BYTES_MAX + 1))
        assert refusal.violations == {"request": f"must be at most {REQUEST_BYTES_MAX} bytes"}
        assert echo.ended == 1

    @pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
    def test_threat_08_that_is_far_too_long_gets_no_further_than_the_transport(
        self, channel: grpc.Channel, echo: Measured, compression: grpc.Compression
    ) -> None:
        """However small it is on the wire: 100 MB of nothing are 100 kB in gzip."""
        method: Any = channel.unary_unary(f"/{NAME}/GetOrder")
        size = 4 * REQUEST_BYTES_MAX + 1
        for body in (b"\0" * size, b"\0" * 100_000_000):
            with pytest.raises(grpc.RpcError) as ended:
                method(body, metadata=tuple(ALICE.metadata()), compression=compression, timeout=20)
            assert code(ended.value) is EXHAUSTED
        assert echo.ended == 0


class TestAConnection:
    def test_threat_10_carries_200_calls_and_not_one_more(self, channel: grpc.Channel) -> None:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(200)]
        assert len(watches) == CALLS_OF_A_CONNECTION_MAX
        assert all(next(watch) for watch in watches)
        with pytest.raises(grpc.RpcError) as waited:
            stub.Check(health_pb2.HealthCheckRequest(), timeout=0.5)
        assert code(waited.value) is grpc.StatusCode.DEADLINE_EXCEEDED
        watches.pop().cancel()
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        for watch in watches:
            watch.cancel()

    def test_threat_10_is_one_of_so_many_and_not_one_more(self, server: Server) -> None:
        with ExitStack() as connections:
            for _ in range(CONNECTIONS):
                channel = connections.enter_context(connection(server))
                assert eventually(partial(is_connected, channel))
            with connection(server) as one_more:
                assert not is_connected(one_more)
        with connection(server) as later:
            assert eventually(lambda: is_connected(later))

    def test_threat_10_that_is_not_used_is_left_to_somebody_else(self) -> None:
        server = a_server(
            patience=Patience(), connections=1, max_connection_idle_seconds=1, drain_seconds=0.2
        )
        server.start()
        with connection(server) as idle, connection(server) as another:
            call(idle)
            assert eventually(lambda: is_connected(another), seconds=20)
        server.stop()

    def test_threat_10_that_says_nothing_is_let_go(self, server: Server) -> None:
        with ExitStack() as lines:
            silent = [
                lines.enter_context(socket.create_connection((LOOPBACK, server.port)))
                for _ in range(CONNECTIONS)
            ]
            for line in silent:
                line.settimeout(20)
                while line.recv(1024):
                    pass
            with connection(server) as channel:
                assert eventually(lambda: is_connected(channel))


def is_connected(channel: grpc.Channel) -> bool:
    try:
        call(channel)
    except grpc.RpcError as error:
        return code(error) is not grpc.StatusCode.UNAVAILABLE
    return True


def code(error: grpc.RpcError) -> grpc.StatusCode:
    ended: Any = error
    found: grpc.StatusCode = ended.code()
    return found


def request(size: int) -> bytes:
    """Build a request of exactly so many bytes."""
    order_id = "x" * (size - 4)
    body = order_service_pb2.GetOrderRequest(order_id=order_id).SerializeToString()
    assert len(body) == size
    return body

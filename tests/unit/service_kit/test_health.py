"""Health follows the database, is told to watchers, and is answered by a busy server."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from service_kit.health import HealthProbe, HealthService
from service_kit.patience import Patience
from tests.unit.service_kit.echo import (
    NAME,
    Echo,
    a_server,
    all_of,
    eventually,
    get_order,
    order,
    serving,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Database:
    """Answers a ping or does not."""

    def __init__(self) -> None:
        self.answers = True
        self.pings = 0

    def ping(self) -> None:
        self.pings += 1
        if not self.answers:
            raise ConnectionError


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def channel(database: Database) -> Iterator[grpc.Channel]:
    with serving(a_server(ping=database.ping)) as channel:
        yield channel


def check(channel: grpc.Channel, name: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=name)
    return int(stub.Check(request, timeout=5).status)


def watch(channel: grpc.Channel, name: str) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=20)


class TestCheck:
    @pytest.mark.parametrize("name", ["", NAME])
    def test_answers_for_the_server_and_for_each_service(
        self, channel: grpc.Channel, name: str
    ) -> None:
        assert check(channel, name) == SERVING

    def test_does_not_know_other_services(self, channel: grpc.Channel) -> None:
        with pytest.raises(grpc.RpcError) as refused:
            check(channel, "checkout.order.v1.Other")
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND

    def test_follows_the_database(self, channel: grpc.Channel, database: Database) -> None:
        database.answers = False
        assert eventually(lambda: check(channel, "") == NOT_SERVING)
        assert check(channel, NAME) == NOT_SERVING
        database.answers = True
        assert eventually(lambda: check(channel, "") == SERVING)

    def test_tells_a_database_that_is_down_from_the_beginning(self, database: Database) -> None:
        database.answers = False
        with serving(a_server(ping=database.ping)) as channel:
            assert check(channel, "") == NOT_SERVING

    def test_answers_while_every_thread_is_busy(self) -> None:
        echo = Echo()
        echo.gate.clear()
        with serving(a_server(echo, threads=2)) as channel:
            calls = [get_order(channel).future(order(f"ord_{n}"), timeout=10) for n in range(8)]
            # Those for the calls, and those to refuse more.
            assert eventually(lambda: echo.running._value == 2 + 2)
            assert check(channel, "") == SERVING
            assert next(iter(watch(channel, ""))).status == SERVING
            echo.gate.set()
            all_of(calls)


class TestList:
    def test_tells_all_names(self, channel: grpc.Channel) -> None:
        untyped: Any = health_pb2
        call = channel.unary_unary(
            "/grpc.health.v1.Health/List",
            request_serializer=untyped.HealthListRequest.SerializeToString,
            response_deserializer=untyped.HealthListResponse.FromString,
        )
        statuses = call(untyped.HealthListRequest(), timeout=5).statuses
        assert {name: entry.status for name, entry in statuses.items()} == {
            "": SERVING,
            NAME: SERVING,
        }


class TestWatch:
    def test_tells_the_status_and_every_change(
        self, channel: grpc.Channel, database: Database
    ) -> None:
        changes = watch(channel, NAME)
        assert next(changes).status == SERVING
        database.answers = False
        assert next(changes).status == NOT_SERVING
        database.answers = True
        assert next(changes).status == SERVING

    def test_waits_for_a_service_that_it_does_not_know(
        self, channel: grpc.Channel, database: Database
    ) -> None:
        changes = watch(channel, "checkout.order.v1.Other")
        assert next(changes).status == SERVICE_UNKNOWN
        database.answers = False
        assert eventually(lambda: check(channel, "") == NOT_SERVING)
        changes.cancel()

    def test_ends_when_the_server_drains(self) -> None:
        server = a_server(drain_seconds=30)
        with serving(server) as channel:
            changes = [watch(channel, "") for _ in range(20)]
            assert {next(change).status for change in changes} == {SERVING}
            threading.Thread(target=server.stop).start()
            for change in changes:
                assert [response.status for response in change] == [NOT_SERVING]

    def test_survives_watchers_that_come_and_go_during_changes(self) -> None:
        """A watcher that leaves while others are being told must not lock the health up."""
        health = HealthService([NAME])
        server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
        health.add_to(server, Patience())
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        enough = threading.Event()

        def flap() -> None:
            # Few enough to fit into the buffers of watchers that do not read.
            for turn in range(4000):
                health.set_serving(serving=turn % 2 == 0)
                if enough.is_set():
                    break

        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            staying = [watch(channel, "") for _ in range(8)]
            assert {next(changes).status for changes in staying} == {NOT_SERVING}
            flapping = threading.Thread(target=flap, daemon=True)
            flapping.start()
            for _ in range(100):
                leaving = watch(channel, "")
                next(leaving)
                leaving.cancel()
            enough.set()
            flapping.join(10)
            assert not flapping.is_alive()
            for changes in staying:
                changes.cancel()
        health.enter_graceful_shutdown()
        server.stop(None).wait(5)

    def test_of_a_server_that_has_shut_down_ends_at_once(self) -> None:
        health = HealthService([])
        health.enter_graceful_shutdown()
        sent: list[Any] = []
        health._watch(health_pb2.HealthCheckRequest(), _context(alive=True), sent.append)
        assert [None if one is None else one.status for one in sent] == [NOT_SERVING, None]

    def test_forgets_a_watcher_that_has_gone_before_it_was_noted(self) -> None:
        health = HealthService([])
        health._watch(health_pb2.HealthCheckRequest(), _context(alive=False), lambda _: None)
        assert health._watchers == {}


class TestHealthService:
    def test_stays_not_serving_after_the_shutdown(self) -> None:
        health = HealthService([NAME])
        health.set_serving(serving=True)
        health.enter_graceful_shutdown()
        health.set_serving(serving=True)
        assert not health.is_serving


class TestHealthProbe:
    def test_checks_before_it_returns_and_then_again_and_again(self, database: Database) -> None:
        health = HealthService([])
        probe = HealthProbe(database.ping, health, interval_seconds=0.01)
        probe.start()
        assert health.is_serving
        assert eventually(lambda: database.pings > 3)
        probe.stop()
        pings = database.pings
        assert not eventually(lambda: database.pings > pings, seconds=0.1)

    def test_logs_each_change_once(self, database: Database) -> None:
        probe = HealthProbe(database.ping, HealthService([]))
        with capture_logs() as log:
            for answers in (True, True, False, False, True):
                database.answers = answers
                probe.check()
        events = [line["event"] for line in log]
        assert events == ["health.serving", "health.not_serving", "health.serving"]
        assert log[1]["error"] == "ConnectionError"

    def test_may_be_stopped_before_it_was_started(self, database: Database) -> None:
        HealthProbe(database.ping, HealthService([])).stop()


def _context(*, alive: bool) -> Any:
    class Context:
        def add_callback(self, _callback: object) -> bool:
            return alive

    return Context()

"""What a load balancer and a grpcurl learn from a running service."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from psycopg import sql
from sqlalchemy import make_url

from tests.assertions import refused
from tests.checkout import Checkout
from tests.client import ORDER_SERVICE_NAME, PAYMENT_SERVICE_NAME, SHOP
from tests.servers.postgres import plain_url
from tests.servers.valkey import PrivateRedis
from tests.system.checkouts import POSTGRESQL, Checkouts
from tests.system.simultaneously import wait_until

pytestmark = pytest.mark.requirement("FR-127")

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

SERVICES = {
    ORDER_SERVICE_NAME: lambda checkout: checkout.order_channel,
    PAYMENT_SERVICE_NAME: lambda checkout: checkout.payment_channel,
}


def health(channel: grpc.Channel, name: str) -> int:
    """Ask as a load balancer does."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    status: int = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status
    return status


@contextmanager
def unreachable(database_url: str) -> Iterator[None]:
    """Rename a PostgreSQL database and end its connections: nobody finds it any more."""
    url = make_url(database_url)
    assert url.database is not None
    elsewhere = plain_url(url.set(database="postgres").render_as_string(hide_password=False))
    name, hidden = sql.Identifier(url.database), sql.Identifier(f"{url.database}_away")
    with psycopg.connect(elsewhere, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [url.database],
        )
        wait_until(lambda: _renamed(admin, name, hidden))
        yield
        admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(hidden, name))
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def _renamed(admin: Any, name: sql.Identifier, hidden: sql.Identifier) -> bool:
    try:
        admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(name, hidden))
    except psycopg.errors.ObjectInUse:
        return False
    return True


class Watcher:
    """Watches a service's health and keeps what it was told."""

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        self._call = stub.Watch(health_pb2.HealthCheckRequest(service=name))
        self.told: list[int] = []
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        try:
            for response in self._call:
                self.told.append(response.status)
        except grpc.RpcError:
            return

    def stop(self) -> None:
        self._call.cancel()
        self._thread.join()


@pytest.mark.parametrize("service", SERVICES)
class TestHealth:
    def test_is_told_overall_and_by_name(self, checkout: Checkout, service: str) -> None:
        channel = SERVICES[service](checkout)
        assert health(channel, "") == SERVING
        assert health(channel, service) == SERVING

    def test_of_a_service_that_is_not_here_is_not_found(
        self, checkout: Checkout, service: str
    ) -> None:
        for name in ("checkout.nothing.v1.NoService", *(SERVICES.keys() - {service})):
            with pytest.raises(grpc.RpcError) as raised:
                health(SERVICES[service](checkout), name)
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND

    def test_is_listed(self, checkout: Checkout, service: str) -> None:
        # Younger than the published stubs.
        untyped: Any = health_pb2
        call = SERVICES[service](checkout).unary_unary(
            "/grpc.health.v1.Health/List",
            request_serializer=untyped.HealthListRequest.SerializeToString,
            response_deserializer=untyped.HealthListResponse.FromString,
        )
        listed = call(untyped.HealthListRequest(), timeout=5).statuses
        assert {name: status.status for name, status in listed.items()} == {
            "": SERVING,
            service: SERVING,
        }

    def test_needs_no_identity(self, checkout: Checkout, service: str) -> None:
        """The calls above bring none."""
        with pytest.raises(grpc.RpcError) as raised:
            SERVICES[service](checkout).unary_unary(f"/{service}/NoSuchRpc")(b"")
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED

    @pytest.mark.requirement("FR-235")
    def test_follows_the_database(self, checkouts: Checkouts, service: str) -> None:
        with checkouts.running(POSTGRESQL) as checkout:
            own = SERVICES[service](checkout)
            [other] = SERVICES.keys() - {service}
            is_orders = service == ORDER_SERVICE_NAME
            settings = checkout.order_settings if is_orders else checkout.payment_settings
            watchers = [Watcher(own, name) for name in ("", service)]
            wait_until(lambda: all(watcher.told for watcher in watchers))
            with unreachable(settings.database_url):
                wait_until(lambda: health(own, "") == NOT_SERVING)
                assert health(own, service) == NOT_SERVING
                # The other one has its own database, and does not follow into the ditch.
                assert health(SERVICES[other](checkout), "") == SERVING
                with refused(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE") as refusal:
                    read_something(checkout, service)
                assert refusal.retry_seconds > 0
            wait_until(lambda: health(own, "") == SERVING)
            read_something(checkout, service)
            wait_until(lambda: all(len(watcher.told) == 3 for watcher in watchers))
            for watcher in watchers:
                watcher.stop()
                assert watcher.told == [SERVING, NOT_SERVING, SERVING]


def read_something(checkout: Checkout, service: str) -> None:
    if service == ORDER_SERVICE_NAME:
        checkout.orders(SHOP).ListOrders()
    else:
        checkout.payments(SHOP).ListPayments()


class TestHealthStays:
    def test_good_without_redis(self, checkouts: Checkouts, private_redis: PrivateRedis) -> None:
        with checkouts.running(redis_url=private_redis.url) as checkout:
            private_redis.kill()
            checkout.paid()
            self.expect_serving(lambda: checkout.order_channel, lambda: checkout.payment_channel)

    def test_good_without_the_other_service(self, checkouts: Checkouts) -> None:
        with checkouts.running() as checkout:
            order = checkout.place()
            checkout.stop_payments()
            with pytest.raises(grpc.RpcError):
                checkout.pay(order)
            self.expect_serving(lambda: checkout.order_channel)

    @staticmethod
    def expect_serving(*channels: Callable[[], grpc.Channel]) -> None:
        # Longer than the probe's interval: it has looked meanwhile.
        threading.Event().wait(1.2)
        assert [health(channel(), "") for channel in channels] == [SERVING] * len(channels)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("version", ["v1", "v1alpha"])
class TestReflection:
    def ask(self, channel: grpc.Channel, version: str, **question: Any) -> Any:
        """Ask one thing; the messages of both versions are the same on the wire."""
        call: Any = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        [response] = call(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=5)
        return response

    def test_lists_the_services(self, checkout: Checkout, service: str, version: str) -> None:
        response = self.ask(SERVICES[service](checkout), version, list_services="*")
        assert {listed.name for listed in response.list_services_response.service} == {
            service,
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }

    def test_describes_the_service_and_the_details_of_its_errors(
        self, checkout: Checkout, service: str, version: str
    ) -> None:
        for symbol in (
            service,
            "checkout.error.v1.InvalidTransition",
            "google.rpc.ErrorInfo",
            "google.rpc.BadRequest",
        ):
            response = self.ask(SERVICES[service](checkout), version, file_containing_symbol=symbol)
            assert response.file_descriptor_response.file_descriptor_proto, symbol

    def test_threat_15_is_off_if_it_is_to_be(
        self, checkouts: Checkouts, service: str, version: str
    ) -> None:
        with checkouts.running(reflection=False) as checkout:
            channel = SERVICES[service](checkout)
            assert health(channel, service) == SERVING
            with pytest.raises(grpc.RpcError) as refused:
                self.ask(channel, version, list_services="*")
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.requirement("FR-357")
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "method",
    [
        "/grpc.channelz.v1.Channelz/GetServers",
        "/grpc.channelz.v1.Channelz/GetTopChannels",
        "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
    ],
)
def test_threat_15_nobody_tells_of_the_servers_insides(
    checkout: Checkout, service: str, method: str
) -> None:
    call: Any = SERVICES[service](checkout).unary_unary(method)
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

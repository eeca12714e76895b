"""Redis only remembers: whatever happens to it, every answer is the same."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import pytest
import redis

from service_kit.idempotency.fingerprint import fingerprint
from service_kit.idempotency.record import KeyedRequest, Reply
from service_kit.idempotency.redis_memory import RedisReplyMemory
from tests.assertions import refused
from tests.captured_log import CapturedLog, captured_log
from tests.checkout import Checkout
from tests.servers.valkey import PrivateRedis, RedisServer
from tests.system.checkouts import Checkouts
from tests.system.keyed_calls import KEYED_CALLS, KeyedCall
from tests.system.simultaneously import wait_until

pytestmark = pytest.mark.requirement("FR-210")


@pytest.fixture(scope="module")
def log() -> Iterator[CapturedLog]:
    """What both services of the module write."""
    with captured_log() as log:
        yield log


@pytest.fixture(scope="module")
def checkout(
    checkouts: Checkouts, redis_server: RedisServer, log: CapturedLog
) -> Iterator[Checkout]:
    """A checkout with a Redis that it shares with others."""
    with checkouts.running(redis_url=redis_server.url) as running:
        yield running


class Memory:
    """What is in the Redis, by name."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client

    def values(self) -> dict[bytes, bytes]:
        return {name: self._client.get(name) for name in self._client.keys()}  # noqa: SIM118 - not a dict

    def seconds_to_live(self) -> list[int]:
        return [self._client.ttl(name) for name in self.values()]

    def plant(self, values: Mapping[bytes, bytes]) -> None:
        for name, value in values.items():
            self._client.set(name, value)

    def forget(self) -> None:
        self._client.flushdb()


@pytest.fixture
def memory(redis_server: RedisServer) -> Iterator[Memory]:
    """The Redis itself, empty."""
    redis_server.flush()
    with redis.Redis.from_url(redis_server.url) as client:
        yield Memory(client)


def until_from_redis(call: KeyedCall, log: CapturedLog) -> None:
    """Repeat the call until Redis answers it: a slow one is left alone for a second."""
    body = call().body

    def is_from_redis() -> bool:
        assert call().body == body
        return source_of_last_reply(log) == "redis"

    wait_until(is_from_redis)


def source_of_last_reply(log: CapturedLog) -> str:
    """Where the last reply came from: the log tells."""
    return str(log.lines("rpc")[-1]["replayed"])


class TestARunningRedis:
    def test_answers_repeats(self, checkout: Checkout, memory: Memory, log: CapturedLog) -> None:
        for rpc, prepare in KEYED_CALLS.items():
            call = prepare(checkout)
            first = call()
            until_from_redis(call, log)
            assert call().body == first.body, rpc

    def test_forgets_after_the_time_to_live(
        self, checkout: Checkout, memory: Memory, log: CapturedLog
    ) -> None:
        for prepare in KEYED_CALLS.values():
            until_from_redis(prepare(checkout), log)
        remaining = memory.seconds_to_live()
        assert len(remaining) >= len(KEYED_CALLS)
        assert all(0 < seconds <= 60 for seconds in remaining)

    def test_that_has_forgotten_costs_nothing_but_a_look_at_the_database(
        self, checkout: Checkout, memory: Memory, log: CapturedLog
    ) -> None:
        call = KEYED_CALLS["PayOrder"](checkout)
        first = call()
        memory.forget()
        assert call().body == first.body
        assert source_of_last_reply(log) == "database"
        until_from_redis(call, log)
        assert call().body == first.body

    @pytest.mark.requirement("FR-126")
    def test_never_sees_a_payment_token(self, checkout: Checkout, memory: Memory) -> None:
        checkout.paid("tok_mastercard")
        checkout.process(checkout.place(), "tok_mastercard")
        for name, value in memory.values().items():
            assert b"tok_" not in name + value

    @pytest.mark.requirement("FR-206", "FR-109")
    def test_does_not_answer_another_request_with_the_same_key(
        self, checkout: Checkout, memory: Memory
    ) -> None:
        call = KEYED_CALLS["CreateOrder"](checkout)
        call()
        remembered = memory.values()
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED"):
            call.with_other_fields()
        assert memory.values() == remembered


FORGERIES = [
    pytest.param(lambda genuine: b"garbage", id="garbage"),
    pytest.param(lambda genuine: b"", id="nothing"),
    pytest.param(lambda genuine: genuine[:16], id="half a MAC"),
    pytest.param(lambda genuine: genuine[:32], id="no reply"),
    pytest.param(lambda genuine: genuine[:-1], id="a byte less"),
    pytest.param(lambda genuine: genuine + b"\x00", id="a byte more"),
    pytest.param(lambda genuine: genuine[:-1] + bytes([genuine[-1] ^ 1]), id="another last bit"),
    pytest.param(lambda genuine: bytes([genuine[0] ^ 1]) + genuine[1:], id="another first bit"),
    pytest.param(lambda genuine: genuine[:32] + b"\x00" + genuine[33:], id="OK made a refusal"),
    pytest.param(lambda genuine: bytes(32) + genuine[32:], id="a MAC of zeros"),
    pytest.param(lambda genuine: secrets.token_bytes(len(genuine)), id="noise"),
]


class TestAForgedValue:
    """Whoever can write to Redis but has no secret changes no answer."""

    @pytest.mark.parametrize("forge", FORGERIES)
    def test_threat_18_is_as_good_as_none(
        self,
        checkout: Checkout,
        memory: Memory,
        log: CapturedLog,
        forge: Callable[[bytes], bytes],
    ) -> None:
        for rpc, prepare in KEYED_CALLS.items():
            call = prepare(checkout)
            memory.forget()
            first = call()
            until_from_redis(call, log)
            memory.plant({name: forge(value) for name, value in memory.values().items()})
            assert call().body == first.body
            assert source_of_last_reply(log) == "database", rpc

    def test_threat_18_is_also_a_genuine_one_that_belongs_to_another_key(
        self, checkout: Checkout, memory: Memory, log: CapturedLog
    ) -> None:
        for rpc, prepare in KEYED_CALLS.items():
            call, other = prepare(checkout), prepare(checkout)
            memory.forget()
            until_from_redis(other, log)
            stolen = memory.values()
            first = call()
            until_from_redis(call, log)
            for value in stolen.values():
                memory.plant(dict.fromkeys(memory.values().keys() - stolen.keys(), value))
                assert call().body == first.body
                assert source_of_last_reply(log) == "database", rpc

    def test_threat_18_does_not_answer_a_request_that_was_never_made(
        self, checkout: Checkout, memory: Memory, redis_server: RedisServer
    ) -> None:
        stolen = checkout.place()
        call = KEYED_CALLS["CreateOrder"](checkout)
        self.forge(checkout, redis_server, call, stolen.SerializeToString())
        order = call().message.order
        assert order.id != stolen.id
        assert checkout.order(order.id) == order

    @staticmethod
    def forge(checkout: Checkout, redis_server: RedisServer, call: KeyedCall, body: bytes) -> None:
        """Put a reply where the service looks for it, under a MAC of somebody else's secret."""
        request = KeyedRequest(
            role="customer",
            caller="alice",
            key=call.fields["idempotency_key"],
            method=call.rpc,
            fingerprint=fingerprint(call.rpc),
        )
        forger = RedisReplyMemory(
            redis_server.url,
            service="order-service",
            instance=order_instance(checkout),
            mac_key=b"a guess",
            ttl_seconds=60,
        )
        forger.remember(request, Reply(ok=True, body=body))
        assert forger.recall(request) == Reply(ok=True, body=body, replayed_from="redis")
        forger.close()


def order_instance(checkout: Checkout) -> str:
    def read(connection: Any) -> str:
        return str(connection.exec_driver_sql("SELECT id FROM instance").scalar_one())

    return checkout.order_database.read(read)


class TestARedisThatStops:
    def test_in_the_middle_changes_no_answer(
        self, checkouts: Checkouts, private_redis: PrivateRedis
    ) -> None:
        with checkouts.running(redis_url=private_redis.url) as checkout:
            before = [prepare(checkout) for prepare in KEYED_CALLS.values()]
            first = [call().body for call in before]
            private_redis.kill()
            assert [call().body for call in before] == first
            meanwhile = [prepare(checkout) for prepare in KEYED_CALLS.values()]
            second = [call().body for call in meanwhile]
            assert [call().body for call in meanwhile] == second
            private_redis.start()
            assert [call().body for call in before + meanwhile] == first + second

    def test_before_the_start_is_no_reason_not_to_start(
        self, checkouts: Checkouts, private_redis: PrivateRedis
    ) -> None:
        private_redis.stop()
        with checkouts.running(redis_url=private_redis.url) as checkout:
            call = KEYED_CALLS["CreateOrder"](checkout)
            first, again = call(), call()
            assert again.body == first.body
            assert again.replayed

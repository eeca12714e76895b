"""The short memory of replies in a real Redis, as it was left, forged and lost."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis

from service_kit.idempotency.record import REDIS, KeyedRequest, Reply
from service_kit.idempotency.redis_memory import RedisReplyMemory
from tests.captured_log import CapturedLog
from tests.servers.valkey import PrivateRedis, RedisServer

REQUEST = KeyedRequest(
    role="customer", caller="cus_1", key="key_1", method="PayOrder", fingerprint=bytes(32)
)
PAID = Reply(ok=True, body=b"paid")
DECLINED = Reply(ok=False, body=b"declined")

Memories = Callable[..., RedisReplyMemory]


@pytest.fixture
def memories(redis_server: RedisServer) -> Iterator[Memories]:
    """Make memories over one empty Redis."""
    redis_server.flush()
    made = []

    def make(**changes: Any) -> RedisReplyMemory:
        made.append(memory_at(redis_server.url, **changes))
        return made[-1]

    yield make
    for memory in made:
        memory.close()


@pytest.fixture
def stored(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


def memory_at(url: str, **changes: Any) -> RedisReplyMemory:
    options = {
        "service": "order-service",
        "instance": "database-1",
        "mac_key": bytes(32),
        "ttl_seconds": 60,
        **changes,
    }
    return RedisReplyMemory(url, **options)


@contextmanager
def paused(server: PrivateRedis) -> Iterator[None]:
    """Stop the server's process in the middle of whatever it does; its port stays open."""
    with redis.Redis.from_url(server.url) as client:
        pid = int(client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def only_key(client: Any) -> bytes:
    [key] = client.keys()
    assert isinstance(key, bytes)
    return key


class TestRemembering:
    @pytest.mark.parametrize("reply", [PAID, DECLINED, Reply(ok=True, body=b"")])
    def test_gives_back_what_was_replied_and_says_from_where(
        self, memories: Memories, reply: Reply
    ) -> None:
        memories().remember(REQUEST, reply)

        assert memories().recall(REQUEST) == replace(reply, replayed_from=REDIS)

    def test_knows_nothing_of_a_request_that_nobody_made(self, memories: Memories) -> None:
        assert memories().recall(REQUEST) is None

    def test_lasts_for_its_time_to_live(self, memories: Memories, stored: Any) -> None:
        memories(ttl_seconds=40).remember(REQUEST, PAID)

        assert 39 <= stored.ttl(only_key(stored)) <= 40

    def test_leaves_neither_caller_nor_key_in_a_name(self, memories: Memories, stored: Any) -> None:
        memories().remember(REQUEST, PAID)

        name = only_key(stored).decode()
        assert name.startswith("order-service:reply:")
        assert REQUEST.caller not in name
        assert REQUEST.key not in name


@pytest.mark.requirement("FR-210")
class TestAnotherRequest:
    @pytest.mark.parametrize(
        "change",
        [
            {"role": "service"},
            {"caller": "cus_2"},
            {"key": "key_2"},
            {"fingerprint": b"\x01" * 32},
            # The same letters, elsewhere.
            {"caller": "cus_1key", "key": "_1"},
        ],
    )
    def test_gets_no_reply(self, memories: Memories, change: dict[str, Any]) -> None:
        memories().remember(REQUEST, PAID)

        assert memories().recall(replace(REQUEST, **change)) is None

    @pytest.mark.parametrize(
        "elsewhere",
        [{"service": "payment-service"}, {"instance": "database-2"}, {"mac_key": b"\x01" * 32}],
        ids=["another service", "another database", "another secret"],
    )
    def test_of_another_installation_gets_no_reply(
        self, memories: Memories, elsewhere: dict[str, Any]
    ) -> None:
        memories().remember(REQUEST, PAID)

        assert memories(**elsewhere).recall(REQUEST) is None


@pytest.mark.requirement("FR-210")
class TestAValueThatIsNotOurs:
    @pytest.mark.parametrize(
        "forge",
        [
            pytest.param(lambda value: value[:-1] + b"!", id="altered reply"),
            pytest.param(lambda value: value[:32] + b"\x00" + value[33:], id="OK made a refusal"),
            pytest.param(lambda value: bytes(32) + value[32:], id="no MAC"),
            pytest.param(lambda value: value[32:], id="reply alone"),
            pytest.param(lambda value: value[:32], id="MAC alone"),
            pytest.param(lambda value: value[:-1], id="truncated"),
            pytest.param(lambda value: value + b"!", id="lengthened"),
            pytest.param(lambda _: b"", id="empty"),
            pytest.param(lambda _: b"\xff" * 100_000, id="garbage"),
            pytest.param(lambda _: b"5", id="number"),
        ],
    )
    def test_is_a_miss(
        self, memories: Memories, stored: Any, forge: Callable[[bytes], bytes]
    ) -> None:
        memories().remember(REQUEST, PAID)
        key = only_key(stored)
        stored.set(key, forge(stored.get(key)))

        assert memories().recall(REQUEST) is None

    @pytest.mark.parametrize(
        "elsewhere", [{"service": "payment-service"}, {"instance": "database-2"}, {}]
    )
    def test_is_a_miss_when_it_was_moved_here_from_another_name(
        self, memories: Memories, stored: Any, elsewhere: dict[str, Any]
    ) -> None:
        other = REQUEST if elsewhere else replace(REQUEST, key="key_2")
        memories().remember(REQUEST, PAID)
        here = only_key(stored)
        stored.flushdb()
        memories(**elsewhere).remember(other, DECLINED)
        stored.rename(only_key(stored), here)

        assert memories().recall(REQUEST) is None

    def test_of_another_type_is_a_miss_and_leaves_redis_alone_for_a_while(
        self, memories: Memories, stored: Any, log: CapturedLog
    ) -> None:
        memory = memories()
        memory.remember(REQUEST, PAID)
        key = only_key(stored)
        stored.delete(key)
        stored.lpush(key, "poison")

        assert memory.recall(REQUEST) is None
        assert [line["error"] for line in log.lines("redis.unavailable")] == ["ResponseError"]


@pytest.mark.requirement("FR-210")
class TestRedisInTrouble:
    def test_is_a_miss_when_it_was_flushed(
        self, memories: Memories, redis_server: RedisServer
    ) -> None:
        memory = memories()
        memory.remember(REQUEST, PAID)
        redis_server.flush()

        assert memory.recall(REQUEST) is None
        memory.remember(REQUEST, PAID)
        assert memory.recall(REQUEST) is not None

    def test_is_asked_on_a_new_connection_when_it_has_closed_the_old_one(
        self, memories: Memories, stored: Any, log: CapturedLog
    ) -> None:
        memory = memories()
        memory.remember(REQUEST, PAID)
        stored.client_kill_filter(_type="normal", skipme=True)

        assert memory.recall(REQUEST) == replace(PAID, replayed_from=REDIS)
        assert log.lines("redis.unavailable") == []

    def test_costs_one_short_delay_when_it_hangs_then_a_pause_without_any(
        self, private_redis: PrivateRedis, log: CapturedLog
    ) -> None:
        memory = memory_at(private_redis.url, timeout_seconds=0.05, pause_seconds=60)
        memory.remember(REQUEST, PAID)
        with paused(private_redis):
            began = time.monotonic()
            assert memory.recall(REQUEST) is None
            first = time.monotonic() - began
            for _ in range(50):
                assert memory.recall(REQUEST) is None
                memory.remember(REQUEST, PAID)
            rest = time.monotonic() - began - first
        memory.close()

        assert 0.04 < first < 0.5
        assert rest < 0.5, "a hundred calls, none of which waited"
        assert len(log.lines("redis.unavailable")) == 1

    @pytest.mark.parametrize("end", [PrivateRedis.stop, PrivateRedis.kill])
    def test_is_a_miss_while_it_is_gone_and_comes_back_after_the_pause(
        self, private_redis: PrivateRedis, end: Callable[[PrivateRedis], None], log: CapturedLog
    ) -> None:
        memory = memory_at(private_redis.url, pause_seconds=0.1)
        memory.remember(REQUEST, PAID)
        end(private_redis)

        assert memory.recall(REQUEST) is None
        memory.remember(REQUEST, PAID)
        private_redis.start()
        time.sleep(0.1)
        memory.remember(REQUEST, DECLINED)
        assert memory.recall(REQUEST) == replace(DECLINED, replayed_from=REDIS)
        memory.close()

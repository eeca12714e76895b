"""The short memory of replies when there is no Redis, or none that answers."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_kit.idempotency.memory import NoReplyMemory, reply_memory
from service_kit.idempotency.record import KeyedRequest, Reply
from service_kit.idempotency.redis_memory import RedisReplyMemory
from service_kit.settings import ServiceSettings
from tests.captured_log import CapturedLog

REQUEST = KeyedRequest(
    role="customer", caller="cus_1", key="key_1", method="PayOrder", fingerprint=bytes(32)
)
REPLY = Reply(ok=True, body=b"paid")


def memory_at(url: str, pause_seconds: float = 60) -> RedisReplyMemory:
    return RedisReplyMemory(
        url,
        service="order-service",
        instance="one",
        mac_key=bytes(32),
        ttl_seconds=60,
        timeout_seconds=0.05,
        pause_seconds=pause_seconds,
    )


class Silent:
    """Takes connections and says nothing, like a server that hangs, or says what it is told."""

    def __init__(self, says: bytes = b"") -> None:
        self._says = says
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._taken: list[socket.socket] = []
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._take, daemon=True).start()

    @property
    def connections(self) -> int:
        return len(self._taken)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._taken:
            connection.close()

    def _take(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._taken.append(connection)
            connection.sendall(self._says)


class TestNoReplyMemory:
    def test_remembers_nothing(self) -> None:
        memory = NoReplyMemory()
        memory.remember(REQUEST, REPLY)

        assert memory.recall(REQUEST) is None
        memory.close()


class TestReplyMemory:
    def settings(self, tmp_path: Path, **given: object) -> ServiceSettings:
        return ServiceSettings.model_validate({"data_dir": tmp_path, **given})

    def test_is_none_without_a_redis_and_does_not_ask_which_database(self, tmp_path: Path) -> None:
        def instance() -> str:
            raise AssertionError("asked")

        memory = reply_memory(
            self.settings(tmp_path), service="order-service", instance=instance, mac_key=bytes(32)
        )

        assert isinstance(memory, NoReplyMemory)

    def test_is_the_redis_of_the_settings(self, tmp_path: Path) -> None:
        server = Silent()
        memory = reply_memory(
            self.settings(tmp_path, redis_url=server.url),
            service="order-service",
            instance=lambda: "one",
            mac_key=bytes(32),
        )

        assert memory.recall(REQUEST) is None
        assert server.connections == 1
        memory.close()
        server.close()


@pytest.mark.requirement("FR-210")
class TestARedisThatDoesNotAnswer:
    @pytest.fixture(
        params=[b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$-2\r\n\xff\r\n", b":1\r\n" * 9],
        ids=["hangs", "speaks HTTP", "stammers", "answers with numbers"],
    )
    def server(self, request: pytest.FixtureRequest) -> Iterator[Silent]:
        server = Silent(request.param)
        yield server
        server.close()

    def test_is_a_miss_and_one_short_delay(self, server: Silent, log: CapturedLog) -> None:
        memory = memory_at(server.url)
        began = time.monotonic()
        for _ in range(20):
            assert memory.recall(REQUEST) is None
            memory.remember(REQUEST, REPLY)
        took = time.monotonic() - began
        memory.close()

        assert took < 0.5
        assert server.connections == 1
        assert len(log.lines("redis.unavailable")) == 1

    def test_costs_a_write_no_more(self, server: Silent, log: CapturedLog) -> None:
        memory = memory_at(server.url)
        memory.remember(REQUEST, REPLY)
        memory.remember(REQUEST, REPLY)
        memory.close()

        assert server.connections == 1
        assert [line["level"] for line in log.lines("redis.unavailable")] == ["warning"]

    def test_delays_callers_that_come_together_only_once(
        self, server: Silent, log: CapturedLog
    ) -> None:
        """More callers than connections: they share the one delay, they do not queue for it."""
        memory = memory_at(server.url)
        threads = [threading.Thread(target=memory.recall, args=[REQUEST]) for _ in range(8)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        memory.close()

        assert time.monotonic() - began < 0.5


@pytest.mark.requirement("FR-210")
class TestARedisThatHangs:
    def test_is_asked_again_after_the_pause(self, log: CapturedLog) -> None:
        server = Silent()
        memory = memory_at(server.url, pause_seconds=0.02)
        memory.recall(REQUEST)
        time.sleep(0.03)
        memory.recall(REQUEST)
        memory.close()

        assert server.connections == 2
        server.close()


@pytest.mark.requirement("FR-210")
class TestARedisThatIsNotThere:
    def test_is_a_miss_at_once(self, log: CapturedLog) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            memory = memory_at(f"redis://127.0.0.1:{unused.getsockname()[1]}/0")

            assert memory.recall(REQUEST) is None
            memory.remember(REQUEST, REPLY)
        memory.close()

        [line] = log.lines("redis.unavailable")
        assert line["error"] == "ConnectionError"

"""Whatever happens to Redis, under load: it only remembers, and is never believed."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any, Final

import pytest
import redis

from tests.faults.errands import ERRANDS
from tests.faults.figures import Figures
from tests.faults.history import Answered, Call, Refused, Unknown
from tests.faults.lines import Lines, breakable
from tests.faults.size import sized
from tests.servers.valkey import PrivateRedis
from tests.system.checkouts import BOTH, Checkouts
from tests.system.simultaneously import wait_until

pytestmark = pytest.mark.usefixtures("errors_only")

TROUBLES: Final = 60
ERRANDS_AT_ONCE: Final = 6
# Each request is sent so often after its final answer.
_REPEATS: Final = 2
# Of all requests, so many are sent once more in the end.
_CHECKED_MAX: Final = 200
# Far longer than any call takes, and no reason for a service to stop waiting.
_PATIENT_SECONDS: Final = 20.0
# Long enough for calls to meet it and for a service to leave Redis alone, or to find it again.
_PAUSE_SECONDS: Final = (0.05, 0.6)


class Trouble:
    """A Redis, and all that can happen to it."""

    def __init__(self, server: PrivateRedis, random: Random) -> None:
        self._server = server
        self._random = random

    def dies(self) -> None:
        """It is killed, and comes back with nothing."""
        self._server.kill()
        self._wait()
        self._server.start()

    def freezes(self) -> None:
        """It takes connections and answers nothing for a while."""
        self._server.freeze()
        self._wait()
        self._server.thaw()

    def forgets(self) -> None:
        """Everything in it is gone."""
        self._server.flush()

    def holds_garbage(self) -> None:
        """Every value is replaced by noise, or is none that can be read."""
        with self._client() as client:
            for name in client.keys():  # noqa: SIM118 - not a dict
                client.delete(name)
                if self._random.random() < 0.5:
                    client.set(name, self._random.randbytes(self._random.randrange(200)))
                else:
                    client.rpush(name, b"not a value")

    def holds_forgeries(self) -> None:
        """Every value is the genuine one of another request, or the own one, altered."""
        with self._client() as client:
            held = {name: value for name in client.keys() if (value := _value(client, name))}  # noqa: SIM118
            others = self._random.sample(list(held.values()), len(held))
            for (name, own), other in zip(held.items(), others, strict=True):
                bit = 1 << self._random.randrange(8 * len(own))
                altered = int.from_bytes(own, "big") ^ bit
                client.set(name, self._random.choice([other, altered.to_bytes(len(own), "big")]))

    def hits(self) -> int:
        """Count what it has found since it was started."""
        with self._client() as client:
            return int(client.info("stats")["keyspace_hits"])

    def _wait(self) -> None:
        time.sleep(self._random.uniform(*_PAUSE_SECONDS))

    def _client(self) -> Any:
        return redis.Redis.from_url(self._server.url)


def _value(client: Any, name: bytes) -> bytes:
    return client.get(name) or b"" if client.type(name) == b"string" else b""


KINDS: Final[Mapping[str, Callable[[Trouble], None]]] = MappingProxyType(
    {
        "dies": Trouble.dies,
        "freezes": Trouble.freezes,
        "forgets": Trouble.forgets,
        "holds garbage": Trouble.holds_garbage,
        "holds forgeries": Trouble.holds_forgeries,
    }
)


@pytest.fixture(params=BOTH)
def lines(
    request: pytest.FixtureRequest,
    checkouts: Checkouts,
    private_redis: PrivateRedis,
    seed: int,
    figures: Figures,
) -> Iterator[Lines]:
    """A checkout with a Redis of its own, all of whose orders are compared in the end."""
    with breakable(checkouts, request.param, seed=seed, redis_url=private_redis.url) as lines:
        yield lines
        lines.check(figures)


def test_every_answer_is_the_same_and_it_is_used_again(
    lines: Lines, private_redis: PrivateRedis, figures: Figures
) -> None:
    random = Random(lines.random.random())  # noqa: S311 - repeatable
    trouble = Trouble(private_redis, random)
    with ThreadPoolExecutor(ERRANDS_AT_ONCE + 1) as pool:
        making = pool.submit(make_trouble, trouble, random, figures)
        running = [pool.submit(go_on_errands, lines, making) for _ in range(ERRANDS_AT_ONCE)]
        answered = [call for errands in running for call in errands.result()]
        making.result()
    figures.add("repeats while Redis was in trouble", _REPEATS * len(answered))

    private_redis.flush()
    hits = trouble.hits()
    request = ERRANDS["pay"](lines)
    first = told(lines.send_until_final(request))

    def is_from_redis() -> bool:
        assert told(lines.send_until_final(request)) == first
        return trouble.hits() > hits

    wait_until(is_from_redis)

    private_redis.kill()
    for call in lines.random.sample(answered, min(_CHECKED_MAX, len(answered))):
        stored = lines.send_until_final(call.request)
        assert told(stored) == told(call), f"{call}: not what the database holds"


def test_nobody_waits_for_one_that_is_frozen(
    lines: Lines, private_redis: PrivateRedis, figures: Figures
) -> None:
    requests = [errand(lines) for errand in ERRANDS.values() for _ in range(_REPEATS)]
    send = partial(lines.send_until_final, timeout=_PATIENT_SECONDS)
    with ThreadPoolExecutor(len(requests)) as crowd:
        private_redis.freeze()
        try:
            calls = list(crowd.map(send, requests))
            again = list(crowd.map(send, requests))
        finally:
            private_redis.thaw()
    assert [told(call) for call in again] == [told(call) for call in calls]
    outcomes = [call.outcome for call in lines.history.calls]
    left = [o for o in outcomes if isinstance(o, Unknown) and "DEADLINE_EXCEEDED" in o.problem]
    assert left == []
    figures.add("answers while Redis was frozen", len(calls) + len(again))


def make_trouble(trouble: Trouble, random: Random, figures: Figures) -> None:
    """Let one thing after the other happen, each kind as often."""
    kinds = list(KINDS) * sized(TROUBLES // len(KINDS))
    random.shuffle(kinds)
    for kind in kinds:
        time.sleep(random.uniform(*_PAUSE_SECONDS))
        KINDS[kind](trouble)
        figures.add("troubles of Redis")


def go_on_errands(lines: Lines, until: Future[None]) -> list[Call]:
    """Send requests and their repeats, which must get the same answer, and return the first."""
    answered = []
    while not until.done():
        for errand in ERRANDS.values():
            call = lines.send_until_final(errand(lines))
            for _ in range(_REPEATS):
                assert told(lines.send_until_final(call.request)) == told(call)
            answered.append(call)
    return answered


def told(call: Call) -> Any:
    """Return all that an answer says."""
    outcome = call.outcome
    assert isinstance(outcome, Answered | Refused)
    return outcome.reply if isinstance(outcome, Answered) else (outcome.reason, outcome.reply)

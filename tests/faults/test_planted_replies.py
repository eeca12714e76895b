"""Replies that are not its own wait for a request in Redis, well-formed: it is done anyway."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType
from typing import Any, Final

import grpc
import pytest
import redis
import sqlalchemy as sa

from service_kit.database import Database
from service_kit.idempotency.record import KeyedRequest, Reply
from service_kit.idempotency.redis_memory import RedisReplyMemory
from tests.assertions import refused
from tests.client import BOB, PAYMENT_SERVICE_NAME
from tests.faults.errands import ERRANDS, cancel, mark_paid, pay, placed, process_payment
from tests.faults.figures import Figures
from tests.faults.history import Answered, Call, Refused, Request
from tests.faults.lines import Lines, breakable
from tests.faults.size import sized
from tests.servers.valkey import RedisServer
from tests.system.checkouts import BOTH, Checkouts
from tests.system.simultaneously import wait_until

pytestmark = pytest.mark.usefixtures("errors_only")

Errand = Callable[[Lines], Request]

_TIMES: Final = 4
_ERRANDS: Final[Mapping[str, Errand]] = MappingProxyType(
    {**ERRANDS, "pay directly": lambda lines: process_payment(lines, placed(lines))}
)


class Planter:
    """Somebody who can write to Redis, knows every name in it, and has no secret."""

    def __init__(self, url: str, lines: Lines) -> None:
        self._redis: Any = redis.Redis.from_url(url)
        of_orders = (url, "order-service", lines.checkout.order_database)
        of_payments = (url, "payment-service", lines.checkout.payment_database)
        self._forgers = {True: _forger(*of_payments), False: _forger(*of_orders)}

    def close(self) -> None:
        """Go away."""
        for forger in self._forgers.values():
            forger.close()
        self._redis.close()

    def value_of(self, request: Request) -> bytes | None:
        """Return what is remembered for a request."""
        value: bytes | None = self._redis.get(self._name(request))
        return value

    def plant(self, request: Request, value: bytes) -> None:
        """Put a value where the service looks for the reply to a request."""
        self._redis.set(self._name(request), value)

    def forge(self, request: Request, reply: Reply) -> None:
        """Put any reply there, in the right form, under a MAC of a secret that is not ours."""
        self._forgers[_is_payment(request)].remember(_keyed(request), reply)

    def _name(self, request: Request) -> str:
        return self._forgers[_is_payment(request)]._name(_keyed(request))


def _is_payment(request: Request) -> bool:
    return request.service == PAYMENT_SERVICE_NAME


def _forger(url: str, service: str, database: Database) -> RedisReplyMemory:
    query = sa.text("SELECT id FROM instance")
    instance = database.read(lambda connection: connection.execute(query).scalar_one())
    return RedisReplyMemory(
        url,
        service=service,
        instance=instance,
        mac_key=b"a guess",
        ttl_seconds=60,
        timeout_seconds=5,
    )


def _keyed(request: Request) -> KeyedRequest:
    caller = request.caller
    # The name of a value does not depend on what is asked for.
    return KeyedRequest(caller.role, caller.id, request.key, request.rpc, fingerprint=b"")


@pytest.fixture(scope="module", params=BOTH)
def lines(
    request: pytest.FixtureRequest,
    checkouts: Checkouts,
    redis_server: RedisServer,
    module_seed: int,
    figures: Figures,
) -> Iterator[Lines]:
    """A checkout with Redis, all of whose orders are compared in the end."""
    url = redis_server.url
    with breakable(checkouts, request.param, seed=module_seed, redis_url=url) as lines:
        yield lines
        lines.check(figures)


@pytest.fixture
def planter(lines: Lines, redis_server: RedisServer) -> Iterator[Planter]:
    """Somebody in Redis."""
    planter = Planter(redis_server.url, lines)
    yield planter
    planter.close()


def done_and_remembered(lines: Lines, planter: Planter, errand: Errand) -> tuple[Call, bytes]:
    """Run an errand to its end, until Redis has its reply too."""
    request = errand(lines)
    call = lines.send_until_final(request)

    def is_remembered() -> bool:
        lines.send_until_final(request)
        return planter.value_of(request) is not None

    wait_until(is_remembered)
    value = planter.value_of(request)
    assert value is not None
    return call, value


@pytest.mark.parametrize("errand", _ERRANDS)
def test_the_genuine_reply_of_another_request_answers_none_that_was_never_made(
    lines: Lines, planter: Planter, figures: Figures, errand: str
) -> None:
    for _ in range(sized(_TIMES)):
        other, value = done_and_remembered(lines, planter, _ERRANDS[errand])
        request = _ERRANDS[errand](lines)
        planter.plant(request, value)
        call = lines.send_until_final(request)
        assert_is_its_own(call, other)
        figures.add("replies planted in Redis")


@pytest.mark.parametrize("errand", _ERRANDS)
def test_a_forged_reply_answers_no_request_that_was_never_made(
    lines: Lines, planter: Planter, figures: Figures, errand: str
) -> None:
    random: Random = lines.random
    for _ in range(sized(_TIMES)):
        other, value = done_and_remembered(lines, planter, _ERRANDS[errand])
        request = _ERRANDS[errand](lines)
        # Behind the MAC and the byte that tells its kind.
        planter.forge(request, Reply(ok=random.random() < 0.5, body=value[33:]))
        assert planter.value_of(request)
        call = lines.send_until_final(request)
        assert_is_its_own(call, other)
        figures.add("replies planted in Redis")


@pytest.mark.parametrize("errand", [pay, cancel, mark_paid])
def test_the_genuine_reply_of_a_customer_tells_another_one_nothing(
    lines: Lines, planter: Planter, figures: Figures, errand: Errand
) -> None:
    for _ in range(sized(_TIMES)):
        mine, value = done_and_remembered(lines, planter, errand)
        request = replace(mine.request, caller=BOB)
        planter.plant(request, value)
        with refused(grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND"):
            lines.checkout.orders(BOB).send(request.rpc, request.body)
        figures.add("replies planted in Redis")


def assert_is_its_own(call: Call, other: Call) -> None:
    """Tell what was answered from what was planted: every order has its own reply."""
    outcome, planted = call.outcome, other.outcome
    assert isinstance(outcome, Answered | Refused)
    assert isinstance(planted, Answered | Refused)
    assert outcome.reply != planted.reply
    if isinstance(outcome, Answered) and outcome.order is not None:
        assert outcome.order.id == call.request.order_id

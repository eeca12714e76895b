"""Redis in front of the database: it answers repeats, and decides nothing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
import redis

from checkout.payment.v1 import payment_pb2
from tests.assertions import refused
from tests.captured_log import CapturedLog, captured_log
from tests.integration.payment_service.desk import Desk, running_desk
from tests.servers.valkey import RedisServer


class Remembering:
    """The service with a Redis, and what its log says of the last call."""

    def __init__(self, desk: Desk, log: CapturedLog, redis_server: RedisServer) -> None:
        self.desk = desk
        self.redis = redis_server
        self._log = log

    @property
    def replayed_from(self) -> str:
        return str(self._log.lines("rpc")[-1]["replayed"])


@pytest.fixture
def remembering(
    database_url: str, data_dir: Path, redis_server: RedisServer
) -> Iterator[Remembering]:
    redis_server.flush()
    with ExitStack() as stack:
        log = stack.enter_context(captured_log())
        desk = stack.enter_context(running_desk(data_dir, database_url, redis_url=redis_server.url))
        yield Remembering(desk, log, redis_server)


@pytest.mark.parametrize("token", ["tok_visa", "tok_chargeDeclined"])
def test_a_repeat_is_answered_from_redis_byte_for_byte(
    remembering: Remembering, token: str
) -> None:
    desk, request = remembering.desk, remembering.desk.process_request(token)
    first = desk.calls.answer("ProcessPayment", request)
    assert remembering.replayed_from == ""
    second = desk.calls.answer("ProcessPayment", request)
    assert remembering.replayed_from == "redis"
    assert second.replayed
    assert second.body == first.body


def test_a_refund_and_its_refusal_are_answered_from_redis(remembering: Remembering) -> None:
    desk = remembering.desk
    payment = desk.process()
    request = desk.refund_request(payment, 1000)
    first = desk.calls.answer("RefundPayment", request)
    assert desk.calls.answer("RefundPayment", request).body == first.body
    assert remembering.replayed_from == "redis"
    too_much = desk.refund_request(payment, 4000)
    statuses = []
    for _ in range(2):
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "REFUND_EXCEEDS_PAYMENT") as refusal:
            desk.calls.RefundPayment(too_much)
        statuses.append(refusal.status)
    assert remembering.replayed_from == "redis"
    assert statuses[0] == statuses[1]


def test_a_pending_reply_is_never_remembered(remembering: Remembering) -> None:
    desk, request = remembering.desk, remembering.desk.process_request("tok_timeoutAfterCharge")
    assert desk.calls.ProcessPayment(request).payment.status == payment_pb2.PAYMENT_STATUS_PENDING
    final = desk.calls.ProcessPayment(request)
    assert remembering.replayed_from == ""
    assert final.payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED


def test_a_reused_key_is_refused_although_redis_knows_it(remembering: Remembering) -> None:
    desk = remembering.desk
    desk.process(key="reused")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED"):
        desk.process("tok_amex", key="reused")


def _flush(client: redis.Redis) -> None:
    client.flushdb()


def _forge(client: redis.Redis) -> None:
    for name in client.scan_iter():
        client.set(name, b"\x00" * 32 + b"\x01forged")


@pytest.mark.parametrize("disturb", [_flush, _forge])
def test_without_a_trustworthy_redis_the_database_answers_the_same(
    remembering: Remembering, disturb: Callable[[redis.Redis], None]
) -> None:
    desk, request = remembering.desk, remembering.desk.process_request()
    first = desk.calls.answer("ProcessPayment", request)
    with redis.Redis.from_url(remembering.redis.url) as client:
        disturb(client)
    second = desk.calls.answer("ProcessPayment", request)
    assert remembering.replayed_from == "database"
    assert second.body == first.body

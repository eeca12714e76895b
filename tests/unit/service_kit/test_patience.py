"""Calls that never say what they want, against a real server."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from checkout.order.v1 import order_service_pb2
from service_kit.contract.method_contracts import method_contracts
from service_kit.credentials.callers import ClaimedCallers
from service_kit.error_table import ErrorTable
from service_kit.interceptors.calls import CallInterceptor
from service_kit.patience import Patience, WaitingRoom
from service_kit.places import Places
from service_kit.plain_calls import on_request
from service_kit.reflection import V1
from service_kit.stream import CallerGone
from tests.assertions import refused
from tests.captured_log import CapturedLog
from tests.client import ALICE
from tests.silent_calls import code_of, silent_calls
from tests.unit.service_kit.echo import NAME, Echo, a_server, eventually, order, serving

GET_ORDER = f"/{NAME}/GetOrder"
CHECK = "/grpc.health.v1.Health/Check"
REFLECT = f"/{V1}/ServerReflectionInfo"
THREADS = 4
# Far less than any caller waits, far more than an honest message takes.
SECONDS = 1.0


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def channel(echo: Echo) -> Iterator[grpc.Channel]:
    with connected(echo, Patience(seconds=SECONDS)) as channel:
        yield channel


def connected(echo: Echo, patience: Patience) -> AbstractContextManager[grpc.Channel]:
    """Serve with so much patience."""
    calls = CallInterceptor(
        contracts=method_contracts(NAME),
        error_table=ErrorTable({}),
        callers=ClaimedCallers(),
        places=Places(THREADS),
        patience=patience,
    )
    return serving(a_server(echo, threads=THREADS, interceptors=[calls], patience=patience))


def get_order(channel: grpc.Channel) -> Any:
    method: Any = channel.unary_unary(
        GET_ORDER, response_deserializer=order_service_pb2.GetOrderResponse.FromString
    )
    body = order("ord_1").SerializeToString()
    return method(body, metadata=tuple(ALICE.metadata()), timeout=10).order.id


def check(channel: grpc.Channel) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status)


@pytest.mark.requirement("FR-353")
class TestACallThatSaysNothing:
    def test_without_an_identity_is_refused_before_it_is_waited_for(
        self, channel: grpc.Channel, echo: Echo
    ) -> None:
        with silent_calls(channel, GET_ORDER, 4 * THREADS) as calls:
            assert {code_of(call) for call in calls} <= {
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            }
            assert eventually(lambda: not _is_refused(channel))
        assert echo.ended == 1

    def test_with_an_identity_is_cut_off(self, channel: grpc.Channel, echo: Echo) -> None:
        with silent_calls(channel, GET_ORDER, THREADS, ALICE.metadata()) as calls:
            assert {code_of(call) for call in calls} == {grpc.StatusCode.CANCELLED}
            assert eventually(lambda: not _is_refused(channel))
        assert echo.ended == 1

    def test_makes_others_be_refused_at_once_and_not_wait(self, channel: grpc.Channel) -> None:
        with silent_calls(channel, GET_ORDER, THREADS, ALICE.metadata()):
            assert eventually(lambda: _is_refused(channel), seconds=SECONDS)
            assert eventually(lambda: not _is_refused(channel), seconds=10)

    def test_has_no_place_for_long_if_it_is_one_of_many(self, echo: Echo) -> None:
        """However patient the server is: half of the places are for callers who say something."""
        with (
            connected(echo, Patience(seconds=3600)) as channel,
            silent_calls(channel, GET_ORDER, THREADS, ALICE.metadata()) as calls,
        ):
            assert eventually(lambda: sum(call.is_active() for call in calls) == THREADS // 2)
            assert eventually(lambda: not _is_refused(channel))
            assert any(call.is_active() for call in calls)

    def test_is_none_while_it_is_only_late(self, echo: Echo) -> None:
        """All places wait for a while, as on a busy server: who is known is given the time."""

        def late() -> Iterator[bytes]:
            time.sleep(0.7)
            yield order("ord_1").SerializeToString()

        with connected(echo, Patience(seconds=3600)) as channel:
            method: Any = channel.stream_unary(GET_ORDER)
            metadata = tuple(ALICE.metadata())
            calls = [method.future(late(), metadata=metadata, timeout=10) for _ in range(THREADS)]
            assert {call.code() for call in calls} == {grpc.StatusCode.OK}

    def test_does_not_keep_the_health_from_being_told(self, channel: grpc.Channel) -> None:
        with silent_calls(channel, CHECK, 40) as calls:
            assert check(channel) == health_pb2.HealthCheckResponse.SERVING
            assert {code_of(call) for call in calls} == {grpc.StatusCode.CANCELLED}

    def test_is_not_reflected_for_ever(self, channel: grpc.Channel) -> None:
        with silent_calls(channel, REFLECT, 1) as [call]:
            started = time.monotonic()
            assert code_of(call) is grpc.StatusCode.CANCELLED
            assert time.monotonic() - started > SECONDS

    def test_does_not_hold_the_drain(self, echo: Echo) -> None:
        server = a_server(echo, drain_seconds=60)
        server.start()
        with (
            grpc.insecure_channel(server.address) as channel,
            silent_calls(channel, CHECK, 1) as [call],
        ):
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 30
            assert code_of(call) in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


@pytest.mark.requirement("FR-353")
class TestACallThatEndsWithoutAMessage:
    def test_is_told_what_is_missing(self, channel: grpc.Channel, echo: Echo) -> None:
        nothing: Any = channel.stream_unary(GET_ORDER)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            nothing(iter(()), metadata=tuple(ALICE.metadata()), timeout=10)
        assert refusal.violations == {"request": "is required: one message"}
        assert echo.ended == 0

    @pytest.mark.parametrize("method", [CHECK, "/grpc.health.v1.Health/List"])
    def test_is_told_so_of_the_health_too(self, channel: grpc.Channel, method: str) -> None:
        nothing: Any = channel.stream_unary(method)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            nothing(iter(()), timeout=10)


class TestMessagesThatCannotBeRead:
    @pytest.mark.parametrize("method", [CHECK, REFLECT])
    def test_are_refused_without_a_contract_too(self, channel: grpc.Channel, method: str) -> None:
        garbage: Any = channel.stream_unary(method)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            garbage(iter([b"\xff\xff"]), timeout=10)


class TestASecondMessage:
    def test_is_never_read(self, channel: grpc.Channel, echo: Echo) -> None:
        two: Any = channel.stream_unary(GET_ORDER)
        body = order("ord_1").SerializeToString()
        two(iter([body, b"\xff"]), metadata=tuple(ALICE.metadata()), timeout=10)
        assert echo.ended == 1


class Ended(Exception):
    """A call was ended with a code."""


class Context:
    """As much of a call as a waiting room knows."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.is_cancelled = False
        self._error = error

    def cancel(self) -> None:
        self.is_cancelled = True
        if self._error:
            raise self._error

    def set_trailing_metadata(self, metadata: object) -> None:
        """Take it."""

    def abort(self, code: grpc.StatusCode, _details: str) -> NoReturn:
        raise Ended(code)


def wait_in(room: WaitingRoom, context: Any, messages: Iterator[bytes]) -> bytes | None:
    """Return the message, or nothing if the call is over."""
    try:
        return room.next_message(messages, context)
    except CallerGone:
        return None


@pytest.mark.requirement("FR-353")
class TestAWaitingRoom:
    def test_lets_nothing_be_done_for_a_call_that_is_cut_off_as_its_message_comes(self) -> None:
        room, late = WaitingRoom(seconds=5, roomy=1, grace_seconds=1), Context()

        def messages() -> Iterator[bytes]:
            room.cut_off(math.inf)
            yield b"late"

        assert wait_in(room, late, messages()) is None
        assert late.is_cancelled

    def test_lets_nobody_be_told_the_health_who_is_cut_off(self) -> None:
        room, late = WaitingRoom(seconds=5, roomy=1, grace_seconds=1), Context()

        def messages() -> Iterator[bytes]:
            room.cut_off(math.inf)
            yield b""

        answered: list[object] = []
        serve = on_request(lambda question, _: answered.append(question), bytes, room)
        with pytest.raises(Ended) as ended:
            serve(messages(), late)
        assert ended.value.args == (grpc.StatusCode.CANCELLED,)
        assert answered == []

    def test_cuts_nobody_off_whose_message_has_come(self) -> None:
        room, punctual = WaitingRoom(seconds=5, roomy=1, grace_seconds=1), Context()
        assert wait_in(room, punctual, iter([b"punctual"])) == b"punctual"
        room.cut_off(math.inf)
        assert not punctual.is_cancelled

    def test_is_left_by_the_oldest_at_once_when_one_too_many_comes(self) -> None:
        room = WaitingRoom(seconds=3600, roomy=1, grace_seconds=0)
        first, second = Context(), Context()

        def messages() -> Iterator[bytes]:
            assert wait_in(room, second, iter([b"second"])) == b"second"
            assert first.is_cancelled
            yield b"first"

        assert wait_in(room, first, messages()) is None
        assert not second.is_cancelled

    def test_is_not_left_before_the_grace_is_over(self) -> None:
        room = WaitingRoom(seconds=3600, roomy=1, grace_seconds=3600)
        first, second = Context(), Context()

        def messages() -> Iterator[bytes]:
            assert wait_in(room, second, iter([b"second"])) == b"second"
            yield b"first"

        assert wait_in(room, first, messages()) == b"first"
        assert not first.is_cancelled

    def test_is_left_by_all_though_one_cannot_be_ended(self, log: CapturedLog) -> None:
        room = WaitingRoom(seconds=5, roomy=2, grace_seconds=1)
        broken, other = Context(error=ZeroDivisionError()), Context()

        def both_wait() -> Iterator[bytes]:
            room.cut_off(math.inf)
            yield b"other"

        def messages() -> Iterator[bytes]:
            assert wait_in(room, other, both_wait()) is None
            yield b"broken"

        assert wait_in(room, broken, messages()) is None
        assert broken.is_cancelled
        assert other.is_cancelled
        assert len(log.lines("patience.failed")) == 1


class BrokenOnce(WaitingRoom):
    """Fails the first time."""

    def __init__(self) -> None:
        super().__init__(seconds=1, roomy=1, grace_seconds=1)
        self.looks = 0

    def cut_off(self, now: float) -> None:
        self.looks += 1
        if self.looks == 1:
            raise ZeroDivisionError


def test_patience_is_not_lost_over_one_failure(log: CapturedLog) -> None:
    patience, room = Patience(), BrokenOnce()
    patience._rooms.append(room)
    patience.start()
    assert eventually(lambda: room.looks > 1)
    patience.stop()
    assert len(log.lines("patience.failed")) == 1


def _is_refused(channel: grpc.Channel) -> bool:
    try:
        assert get_order(channel) == "ord_1"
    except grpc.RpcError as error:
        ended: Any = error
        assert ended.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return True
    return False

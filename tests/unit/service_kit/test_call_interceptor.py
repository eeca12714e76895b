"""The way of every call, seen from the other end of the wire."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.api_pb2 import Api, Method
from google.protobuf.wrappers_pb2 import StringValue

from service_kit.call import Call, current
from service_kit.contract.method_contracts import MethodContract
from service_kit.credentials.callers import Callers, ClaimedCallers, ProvenCallers
from service_kit.error_table import ErrorTable
from service_kit.errors import ConcurrentUpdate, InvalidRequest, RecordedRefusal
from service_kit.idempotency.record import REDIS, Reply
from service_kit.interceptors.calls import CallInterceptor
from service_kit.patience import Patience
from service_kit.places import Places
from service_kit.status import build_status, retry_info
from tests.assertions import refused
from tests.captured_log import CapturedLog
from tests.loopback import SERVICE, serving

GREET = f"/{SERVICE}/Greet"
FORGET = f"/{SERVICE}/ForgetToAnswer"
CARD_NUMBER = "4242 4242 4242 4242"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"

CUSTOMER = {"x-actor-id": "cus_1", "x-actor-role": "customer"}

INVALID = grpc.StatusCode.INVALID_ARGUMENT
STORED = build_status(
    grpc.StatusCode.FAILED_PRECONDITION,
    reason="SOLD_OUT",
    message="sold out",
    metadata={"b": "2", "a": "1"},
    details=[retry_info(1)],
).SerializeToString()


class Greeter:
    """Greets, or raises or replays what a test gives it, and keeps the calls it was given."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.error: Exception | None = None
        self.replayed: Reply | None = None
        self.was_asked, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()

    def greet(self, request: Api, context: grpc.ServicerContext) -> StringValue:
        self.calls.append(current())
        self.was_asked.set()
        assert self.may_answer.wait(10)
        if self.error:
            raise self.error
        if self.replayed:
            return self.replayed.message(StringValue)
        return StringValue(value=f"hello {request.name}")

    def forget_to_answer(self, request: Api, context: grpc.ServicerContext) -> None:
        self.calls.append(current())


class Client:
    """Calls the greeter as its callers do."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def greet(
        self,
        request: Api | bytes | None = None,
        *,
        method: str = GREET,
        timeout: float | None = 5,
        **metadata: str | None,
    ) -> tuple[StringValue, dict[str, Any], dict[str, Any]]:
        """Return the response, the initial and the trailing metadata."""
        body = request if isinstance(request, bytes) else (request or Api()).SerializeToString()
        given = {name.replace("_", "-"): value for name, value in metadata.items()}
        pairs = [(name, value) for name, value in {**CUSTOMER, **given}.items() if value]
        rpc: Any = self._channel.unary_unary(method, response_deserializer=StringValue.FromString)
        response, call = rpc.with_call(body, metadata=pairs, timeout=timeout)
        return response, dict(call.initial_metadata()), dict(call.trailing_metadata())

    def begin_to_greet(self) -> Any:
        """Send a call and return it without waiting for its answer."""
        rpc: Any = self._channel.unary_unary(GREET)
        return rpc.future(b"", metadata=tuple(CUSTOMER.items()))


@pytest.fixture
def greeter() -> Greeter:
    return Greeter()


def an_interceptor(*, places: int, callers: Callers | None = None) -> CallInterceptor:
    """Make one that knows two methods of the greeter."""
    contracts = {
        method: MethodContract(
            method=method,
            transitions=(),
            error_reasons=frozenset(),
            idempotency="by_key",
            roles=frozenset({"customer", "service", "order_service"}),
        )
        for method in (GREET, FORGET)
    }
    return CallInterceptor(
        contracts=contracts,
        error_table=ErrorTable({}),
        callers=callers or ClaimedCallers(),
        places=Places(places),
        patience=Patience(),
    )


@contextmanager
def connected(greeter: Greeter, interceptor: CallInterceptor) -> Iterator[Client]:
    """Serve the greeter behind the interceptor."""

    def unchecked(request: Api, context: grpc.ServicerContext) -> StringValue:
        with pytest.raises(LookupError):
            current()
        return StringValue(value="unchecked")

    with serving(
        {
            "Greet": greeter.greet,
            "ForgetToAnswer": greeter.forget_to_answer,
            "WithoutContract": unchecked,
        },
        request=Api,
        response=StringValue,
        interceptors=[interceptor],
    ) as channel:
        yield Client(channel)


@pytest.fixture
def client(greeter: Greeter, log: CapturedLog) -> Iterator[Client]:
    with connected(greeter, an_interceptor(places=8)) as client:
        yield client


class TestACall:
    def test_is_answered(self, client: Client) -> None:
        response, _, trailers = client.greet(Api(name="Ada"))

        assert response.value == "hello Ada"
        assert "idempotency-replayed" not in trailers

    def test_tells_its_handler_who_calls_for_whom_and_which_method(
        self, client: Client, greeter: Greeter
    ) -> None:
        client.greet(x_actor_id="web-shop", x_actor_role="service", x_on_behalf_of="cus_2")

        [call] = greeter.calls
        assert (call.principal.role, call.principal.id) == ("service", "web-shop")
        assert (call.on_behalf_of, call.method) == ("cus_2", GREET)

    def test_is_over_when_it_is_answered(self, client: Client) -> None:
        client.greet()

        with pytest.raises(LookupError):
            current()

    def test_knows_itself_while_others_run(self, client: Client, greeter: Greeter) -> None:
        threads = [
            threading.Thread(target=client.greet, kwargs={"x_actor_id": f"cus_{number}"})
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

        assert {call.principal.id for call in greeter.calls} == {f"cus_{n}" for n in range(8)}

    def test_of_a_method_without_a_contract_passes_by(
        self, client: Client, log: CapturedLog
    ) -> None:
        """Health and reflection ask for no identity and write no line."""
        response, initial, trailers = client.greet(
            method=f"/{SERVICE}/WithoutContract", x_actor_id=None
        )

        assert response.value == "unchecked"
        assert "x-trace-id" not in {**initial, **trailers}
        assert not log.text

    def test_of_an_unknown_method_is_grpcs_business(self, client: Client) -> None:
        with pytest.raises(grpc.RpcError) as raised:
            client.greet(method=f"/{SERVICE}/Unknown")

        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED

    def test_may_carry_binary_metadata_of_others(self, client: Client) -> None:
        binary: Any = b"\x00\x01"

        response, *_ = client.greet(x_other_bin=binary)

        assert response.value == "hello "


@pytest.mark.requirement("FR-232")
class TestTheTrace:
    def test_is_the_callers_traceparent(self, client: Client, greeter: Greeter) -> None:
        _, _, trailers = client.greet(traceparent=TRACEPARENT, x_trace_id="f" * 32)

        assert trailers["x-trace-id"] == TRACE_ID
        assert greeter.calls[0].trace.trace_id == TRACE_ID
        assert greeter.calls[0].trace.parent_id == "b7ad6b7169203331"

    def test_is_else_the_callers_trace_id(self, client: Client, greeter: Greeter) -> None:
        _, _, trailers = client.greet(x_trace_id=TRACE_ID)

        assert trailers["x-trace-id"] == TRACE_ID
        assert greeter.calls[0].trace.trace_id == TRACE_ID

    @pytest.mark.parametrize("given", [None, "not-a-trace-id"])
    def test_is_else_a_new_one(self, client: Client, greeter: Greeter, given: str | None) -> None:
        _, _, trailers = client.greet(x_trace_id=given)

        assert trailers["x-trace-id"] == greeter.calls[0].trace.trace_id
        assert len(bytes.fromhex(trailers["x-trace-id"])) == 16

    def test_is_told_at_the_end_so_that_a_proxy_may_ask_again_until_then(
        self, client: Client
    ) -> None:
        _, initial, _ = client.greet(x_trace_id=TRACE_ID)

        assert "x-trace-id" not in initial

    def test_is_told_with_a_refusal_too(self, client: Client) -> None:
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING") as refusal:
            client.greet(x_actor_id=None, traceparent=TRACEPARENT)

        assert refusal.trailers["x-trace-id"] == TRACE_ID


@pytest.mark.requirement("FR-234")
class TestTheDeadline:
    @pytest.mark.parametrize(
        ("timeout", "least", "most"),
        [
            pytest.param(None, 9.5, 10.0, id="none given: 10 s"),
            pytest.param(4, 3.5, 4.0, id="as given"),
            pytest.param(3600, 29.5, 30.0, id="at most 30 s"),
        ],
    )
    def test_is(
        self, client: Client, greeter: Greeter, timeout: float | None, least: float, most: float
    ) -> None:
        client.greet(timeout=timeout)

        # A deadline travels rounded up to a few milliseconds.
        assert least < greeter.calls[0].remaining_seconds() < most + 0.1


@pytest.mark.requirement("FR-230")
class TestIdentity:
    @pytest.mark.parametrize(
        ("wrong", "header"),
        [
            ({"x_actor_id": None}, "x-actor-id"),
            ({"x_actor_role": None}, "x-actor-role"),
            ({"x_actor_role": "admin"}, "x-actor-role"),
            ({"x_actor_id": "order-service"}, "x-actor-id"),
            ({"x_actor_role": "order_service"}, "x-actor-id"),
            ({"x_actor_role": "service", "x_on_behalf_of": "cus 2"}, "x-on-behalf-of"),
        ],
    )
    def test_that_is_missing_or_wrong_is_refused_by_its_header(
        self, client: Client, greeter: Greeter, wrong: dict[str, Any], header: str
    ) -> None:
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING") as refusal:
            client.greet(**wrong)

        assert refusal.metadata == {"header": header}
        assert not greeter.calls

    def test_in_a_role_that_the_contract_does_not_name_is_refused(
        self, client: Client, greeter: Greeter
    ) -> None:
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED") as refusal:
            client.greet(x_actor_role="operations")

        assert refusal.metadata == {"role": "operations", "method": "Greet"}
        assert not greeter.calls

    def test_comes_before_the_request_is_read(self, client: Client) -> None:
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            client.greet(b"\xff", x_actor_role="operations")


@pytest.mark.requirement("FR-233")
class TestTheRequest:
    # A name of this length makes a message of exactly 64 kB.
    LONGEST = "n" * (64 * 1024 - 4)

    def test_may_be_64_kb(self, client: Client) -> None:
        request = Api(name=self.LONGEST)
        assert request.ByteSize() == 64 * 1024

        response, *_ = client.greet(request)

        assert response.value == f"hello {self.LONGEST}"

    def test_must_not_be_larger(self, client: Client, greeter: Greeter) -> None:
        with refused(INVALID, "VALIDATION_FAILED") as refusal:
            client.greet(Api(name=self.LONGEST + "n"))

        assert set(refusal.violations) == {"request"}
        assert not greeter.calls

    def test_must_be_a_message_of_its_type(self, client: Client, greeter: Greeter) -> None:
        with refused(INVALID, "VALIDATION_FAILED") as refusal:
            client.greet(b"\xff\xff")

        assert set(refusal.violations) == {"request"}
        assert not greeter.calls

    def test_must_hold_no_card_number_in_any_field(
        self, client: Client, greeter: Greeter, log: CapturedLog
    ) -> None:
        methods = [Method(name="fine"), Method(name=f"card {CARD_NUMBER}")]

        with refused(INVALID, "CARD_DATA_NOT_ACCEPTED") as refusal:
            client.greet(Api(name=CARD_NUMBER, methods=methods))

        assert set(refusal.violations) == {"name", "methods[1].name"}
        assert refusal.metadata == {"field": "name"}
        assert not greeter.calls
        assert CARD_NUMBER not in f"{refusal.status}{log.text}"


@pytest.mark.requirement("FR-205")
class TestARefusal:
    def test_is_told_as_the_error_table_says(self, client: Client, greeter: Greeter) -> None:
        greeter.error = ConcurrentUpdate(attempts=5)

        with refused(grpc.StatusCode.ABORTED, "CONCURRENT_UPDATE") as refusal:
            client.greet()

        assert refusal.metadata == {"attempts": "5"}
        assert refusal.retry_seconds > 0
        assert not refusal.is_replayed

    def test_that_was_stored_passes_through_byte_for_byte(
        self, client: Client, greeter: Greeter
    ) -> None:
        greeter.error = RecordedRefusal(status=STORED)

        with refused(grpc.StatusCode.FAILED_PRECONDITION, "SOLD_OUT") as refusal:
            client.greet()

        assert refusal.trailers["grpc-status-details-bin"] == STORED
        assert not refusal.is_replayed

    def test_that_is_a_repeat_says_so(self, client: Client, greeter: Greeter) -> None:
        greeter.replayed = Reply(ok=False, body=STORED, replayed_from=REDIS)

        with refused(grpc.StatusCode.FAILED_PRECONDITION, "SOLD_OUT") as refusal:
            client.greet()

        assert refusal.trailers["grpc-status-details-bin"] == STORED
        assert refusal.is_replayed


@pytest.mark.requirement("FR-205")
class TestAReply:
    def test_that_is_a_repeat_says_so(self, client: Client, greeter: Greeter) -> None:
        body = StringValue(value="hello again").SerializeToString()
        greeter.replayed = Reply(ok=True, body=body, replayed_from=REDIS)

        response, _, trailers = client.greet()

        assert response.value == "hello again"
        assert trailers["idempotency-replayed"] == "true"


@pytest.mark.requirement("FR-231")
class TestABug:
    """An exception that nobody foresaw."""

    @pytest.fixture(
        params=[
            RuntimeError("secret tok_live_4711 of cus_1"),
            # Its row asks for the first violation, and there is none.
            InvalidRequest(violations=[]),
            RecordedRefusal(status=b"\xff tok_live_4711"),
        ],
        ids=["unknown exception", "row that fails", "stored refusal that cannot be read"],
    )
    def bug(self, request: pytest.FixtureRequest, greeter: Greeter) -> None:
        greeter.error = request.param

    @pytest.mark.usefixtures("bug")
    def test_threat_14_is_told_as_internal_with_the_trace_id_and_nothing_else(
        self, client: Client
    ) -> None:
        with refused(grpc.StatusCode.INTERNAL, "INTERNAL") as refusal:
            client.greet(x_trace_id=TRACE_ID)

        assert refusal.metadata == {"trace_id": TRACE_ID}
        assert refusal.request_id == TRACE_ID
        assert len(refusal.status.details) == 2
        assert "tok_live_4711" not in f"{refusal.status}{refusal.initial}{refusal.trailers}"

    @pytest.mark.usefixtures("bug")
    def test_is_logged_with_its_traceback(self, client: Client, log: CapturedLog) -> None:
        with refused(grpc.StatusCode.INTERNAL, "INTERNAL"):
            client.greet(x_trace_id=TRACE_ID)

        [line] = log.lines("rpc.failed")
        assert line["level"] == "error"
        assert line["trace_id"] == TRACE_ID
        assert line["exception"].startswith("Traceback")
        assert "in greet" in line["exception"]

    def test_in_what_a_handler_returns_is_told_likewise(
        self, client: Client, greeter: Greeter, log: CapturedLog
    ) -> None:
        with refused(grpc.StatusCode.INTERNAL, "INTERNAL"):
            client.greet(method=FORGET)

        assert len(greeter.calls) == len(log.lines("rpc.failed")) == 1


@pytest.mark.requirement("FR-232")
class TestTheLogLine:
    def test_is_one_for_a_call_and_says_who_what_and_how_long(
        self, client: Client, log: CapturedLog
    ) -> None:
        client.greet(
            x_actor_id="web-shop",
            x_actor_role="service",
            x_on_behalf_of="cus_2",
            x_trace_id=TRACE_ID,
        )

        [line] = log.lines("rpc")
        assert 0 <= line.pop("duration_ms") < 5000
        assert line.pop("timestamp")
        assert line == {
            "event": "rpc",
            "level": "info",
            "service": "test",
            "method": GREET,
            "code": "OK",
            "reason": "",
            "caller": "web-shop",
            "role": "service",
            "on_behalf_of": "cus_2",
            "peer": "",
            "trace_id": TRACE_ID,
            "replayed": "",
        }

    def test_names_code_and_reason_of_a_refusal(
        self, client: Client, greeter: Greeter, log: CapturedLog
    ) -> None:
        greeter.error = ConcurrentUpdate(attempts=5)

        with refused(grpc.StatusCode.ABORTED, "CONCURRENT_UPDATE"):
            client.greet()

        [line] = log.lines("rpc")
        assert (line["code"], line["reason"]) == ("ABORTED", "CONCURRENT_UPDATE")

    def test_names_no_caller_before_there_is_one(self, client: Client, log: CapturedLog) -> None:
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING"):
            client.greet(x_actor_id=CARD_NUMBER)

        [line] = log.lines("rpc")
        assert (line["caller"], line["role"]) == ("", "")

    def test_names_the_store_that_a_repeat_came_from(
        self, client: Client, greeter: Greeter, log: CapturedLog
    ) -> None:
        greeter.replayed = Reply(ok=True, body=b"", replayed_from=REDIS)

        client.greet()

        assert log.lines("rpc")[0]["replayed"] == "redis"

    @pytest.mark.parametrize("error", [None, ConcurrentUpdate(attempts=5)])
    def test_is_written_although_the_caller_has_gone(
        self, client: Client, greeter: Greeter, log: CapturedLog, error: Exception | None
    ) -> None:
        """A handler is not cut off when its caller goes: what it did is told."""
        greeter.error = error
        greeter.may_answer.clear()
        call = client.begin_to_greet()
        assert greeter.was_asked.wait(10)
        call.cancel()
        greeter.may_answer.set()

        give_up_at = time.monotonic() + 10
        while not log.lines("rpc") and time.monotonic() < give_up_at:
            time.sleep(0.005)
        [line] = log.lines("rpc")
        assert line["code"] == ("ABORTED" if error else "OK")

    def test_is_one_for_a_bug_too(self, client: Client, greeter: Greeter, log: CapturedLog) -> None:
        greeter.error = RuntimeError("boom")

        with refused(grpc.StatusCode.INTERNAL, "INTERNAL"):
            client.greet()

        [line] = log.lines("rpc")
        assert (line["code"], line["reason"]) == ("INTERNAL", "INTERNAL")


class Gone:
    """The context of a call whose caller has gone."""

    def is_active(self) -> bool:
        return False


@pytest.mark.requirement("FR-351")
class TestACallWithoutAPlace:
    def test_is_told_when_to_come_back_and_not_all_at_once(
        self, greeter: Greeter, log: CapturedLog
    ) -> None:
        told = set()
        with connected(greeter, an_interceptor(places=0)) as client:
            for _ in range(20):
                with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED") as refusal:
                    client.greet()
                told.add(refusal.retry_seconds)
        assert len(told) > 1
        assert all(0.8 <= seconds <= 1.2 for seconds in told)
        assert greeter.calls == []

    @pytest.mark.parametrize(
        ("metadata", "callers", "written"),
        [
            ({}, ClaimedCallers(), ("cus_1", "customer")),
            ({"x_actor_id": CARD_NUMBER.replace(" ", "")}, ClaimedCallers(), ("", "")),
            ({"x_actor_role": None}, ClaimedCallers(), ("", "")),
            ({}, ProvenCallers(tokens=None, clients=None), ("", "")),
        ],
    )
    def test_is_logged_with_its_caller_where_that_is_only_claimed(
        self,
        greeter: Greeter,
        log: CapturedLog,
        metadata: dict[str, str | None],
        callers: Callers,
        written: tuple[str, str],
    ) -> None:
        with (
            connected(greeter, an_interceptor(places=0, callers=callers)) as client,
            refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
        ):
            client.greet(**metadata)  # type: ignore[arg-type]
        [line] = log.lines("rpc")
        assert (line["caller"], line["role"]) == written

    def test_is_neither_told_nor_logged_once_its_caller_has_gone(
        self, greeter: Greeter, log: CapturedLog
    ) -> None:
        greet = grpc.unary_unary_rpc_method_handler(
            greeter.greet,
            request_deserializer=Api.FromString,
            response_serializer=StringValue.SerializeToString,
        )
        details: Any = SimpleNamespace(method=GREET, invocation_metadata=())
        handler: Any = an_interceptor(places=0).intercept_service(lambda _: greet, details)
        assert handler.stream_unary(iter(()), Gone()) == b""
        assert log.lines("rpc") == []

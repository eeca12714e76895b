"""How a refusal is packed, and how another service's is read."""

import socket
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2 as rpc

from service_kit.errors import FieldViolation
from service_kit.status import (
    Refusal,
    abort,
    bad_request,
    build_status,
    parse,
    precondition_failure,
    reason_of,
    refusal_of,
    request_info,
    resource_info,
    retry_info,
)
from tests.assertions import DETAILS_BYTES_MAX, told
from tests.loopback import Behaviour, serving

CODE = grpc.StatusCode.FAILED_PRECONDITION
# As long as the longest path and sentence that a request can provoke.
LONG_VIOLATIONS = [
    FieldViolation(
        f"items[{index}].unit_price.minor_units",
        "is out of its limit: `minor_units` from 0 to 10,000,000,000",
    )
    for index in range(100)
]
BEYOND_4_KB = [FieldViolation(f"field_{index}", "is wrong. " * 20) for index in range(25)]


@pytest.mark.requirement("FR-231")
class TestBuildStatus:
    def test_names_code_reason_and_facts(self) -> None:
        status = build_status(CODE, reason="SOLD_OUT", message="sold out", metadata={"sku": "mug"})

        refusal = told(status, CODE, "SOLD_OUT")
        assert refusal.metadata == {"sku": "mug"}
        assert reason_of(status) == "SOLD_OUT"

    def test_carries_every_detail_beside_the_one_error_info(self) -> None:
        status = build_status(
            CODE,
            reason="SOLD_OUT",
            message="sold out",
            metadata={},
            details=[
                precondition_failure(kind="STOCK", subject="mug", description="there is none"),
                resource_info(kind="article", name="mug"),
                retry_info(0.25),
                request_info("trace-1"),
                bad_request([FieldViolation("sku", "is sold out")]),
            ],
        )

        refusal = told(status, CODE, "SOLD_OUT")
        assert refusal.precondition == ("STOCK", "mug")
        assert refusal.resource == ("article", "mug")
        assert refusal.retry_seconds == 0.25
        assert refusal.request_id == "trace-1"
        assert refusal.violations == {"sku": "is sold out"}

    def test_tells_of_at_most_25_fields_and_has_room_for_all_of_them(self) -> None:
        sentence = "; ".join(f"{v.field}: {v.description}" for v in LONG_VIOLATIONS)

        status = build_status(
            CODE, reason="R", message=sentence, metadata={}, details=[bad_request(LONG_VIOLATIONS)]
        )

        assert list(told(status, CODE, "R").violations) == [v.field for v in LONG_VIOLATIONS[:25]]
        assert status.ByteSize() <= DETAILS_BYTES_MAX

    def test_leaves_out_what_does_not_fit_last_first(self) -> None:
        details = [retry_info(1), bad_request(BEYOND_4_KB), request_info("trace-1")]

        status = build_status(CODE, reason="R", message="", metadata={}, details=details)

        refusal = told(status, CODE, "R")
        assert refusal.retry_seconds == 1
        assert refusal.details(rpc.BadRequest) == refusal.details(rpc.RequestInfo) == []

    def test_never_leaves_out_the_error_info(self) -> None:
        details = [bad_request(BEYOND_4_KB)]

        status = build_status(CODE, reason="R", message="", metadata={"a": "b"}, details=details)

        assert len(status.details) == 1
        assert told(status, CODE, "R").metadata == {"a": "b"}

    def test_survives_being_stored(self) -> None:
        status = build_status(CODE, reason="R", message="m", metadata={"a": "b"})

        assert parse(status.SerializeToString(deterministic=True)) == status


class TestReasonOf:
    def test_is_empty_for_a_status_without_error_info(self) -> None:
        status = build_status(CODE, reason="R", message="", metadata={})
        del status.details[:]

        assert reason_of(status) == ""


def ask(behaviour: Behaviour) -> Refusal:
    """Call a service that behaves so, and read its refusal."""
    with serving({"Greet": behaviour}) as channel:
        return ask_over(channel)


def ask_over(channel: grpc.Channel) -> Refusal:
    greet: Any = channel.unary_unary("/test.Greeter/Greet")
    with pytest.raises(grpc.RpcError) as raised:
        greet(b"", timeout=5)
    return refusal_of(raised.value)


def refusing(details: bytes | None = None) -> Behaviour:
    """Refuse with CODE and no sentence, and with these bytes where details belong."""

    def behave(request: object, context: grpc.ServicerContext) -> None:
        if details is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(CODE, "")

    return behave


class TestRefusalOf:
    """What a client of ours makes of another service's answer."""

    def test_reads_reason_facts_and_fields(self) -> None:
        fields = [FieldViolation("token", "is required")]
        status = build_status(
            CODE, reason="R", message="no", metadata={"a": "b"}, details=[bad_request(fields)]
        )

        refusal = ask(lambda _, context: abort(context, status, [("x-own", "kept")]))

        assert refusal == Refusal(
            code=CODE, reason="R", message="no", metadata={"a": "b"}, violations=(*fields,)
        )

    def test_knows_no_reason_when_nobody_answers(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with grpc.insecure_channel(f"127.0.0.1:{unused.getsockname()[1]}") as channel:
                refusal = ask_over(channel)

        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert (refusal.reason, refusal.metadata, refusal.violations) == ("", {}, ())

    def test_knows_no_reason_when_the_status_has_no_details(self) -> None:
        refusal = ask(refusing())

        assert (refusal.code, refusal.reason) == (CODE, "")

    def test_does_not_take_another_systems_reason_for_one_of_ours(self) -> None:
        status = build_status(CODE, reason="", message="", metadata={})
        status.details[0].Pack(rpc.ErrorInfo(reason="ORDER_NOT_FOUND", domain="elsewhere"))

        assert ask(refusing(status.SerializeToString())).reason == ""

    def test_ignores_details_it_does_not_know(self) -> None:
        unknown = [StringValue(value="from a newer version")]
        status = build_status(CODE, reason="R", message="", metadata={}, details=unknown)

        assert ask(refusing(status.SerializeToString())).reason == "R"

    @pytest.mark.parametrize(
        ("code", "message"), [(grpc.StatusCode.NOT_FOUND, ""), (CODE, "another sentence")]
    )
    def test_does_not_believe_details_that_contradict_the_answer(
        self, code: grpc.StatusCode, message: str
    ) -> None:
        status = build_status(code, reason="R", message=message, metadata={})

        refusal = ask(refusing(status.SerializeToString()))

        assert (refusal.code, refusal.reason) == (CODE, "")

    def test_does_not_stumble_over_details_that_cannot_be_read(self) -> None:
        status = build_status(CODE, reason="R", message="", metadata={})
        status.details[0].value = b"\xff"

        assert ask(refusing(b"\xff")).reason == ""
        assert ask(refusing(status.SerializeToString())).reason == ""

"""Giving a stored reply back."""

import time

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from service_kit.call import Call, Principal, current, serving
from service_kit.errors import RecordedRefusal
from service_kit.idempotency.record import DATABASE, REDIS, Reply
from service_kit.tracing import TraceContext


def a_call() -> Call:
    return Call(
        method="/test.Greeter/Greet",
        principal=Principal(role="customer", id="cus_1"),
        on_behalf_of="",
        trace=TraceContext.new(),
        deadline=time.monotonic() + 5,
    )


class TestReply:
    def test_becomes_the_message_it_was(self) -> None:
        reply = Reply(ok=True, body=StringValue(value="hello").SerializeToString())

        assert reply.message(StringValue) == StringValue(value="hello")

    def test_that_is_fresh_leaves_no_mark_on_the_call(self) -> None:
        with serving(a_call()) as call:
            Reply(ok=True, body=b"").message(StringValue)

        assert call.replayed_from == ""

    @pytest.mark.parametrize("source", [DATABASE, REDIS])
    def test_that_is_a_repeat_tells_the_call_where_it_came_from(self, source: str) -> None:
        with serving(a_call()) as call:
            Reply(ok=True, body=b"", replayed_from=source).message(StringValue)

        assert call.replayed_from == source

    def test_that_refuses_is_raised_as_it_was_stored(self) -> None:
        reply = Reply(ok=False, body=b"a serialized status", replayed_from=DATABASE)

        with serving(a_call()) as call, pytest.raises(RecordedRefusal) as refusal:
            reply.message(StringValue)

        assert refusal.value.status == b"a serialized status"
        assert call.replayed_from == DATABASE


class TestCall:
    def test_is_known_only_while_it_is_served(self) -> None:
        with serving(a_call()) as call:
            assert current() is call
        with pytest.raises(LookupError):
            current()

    def test_knows_how_long_its_caller_will_wait(self) -> None:
        call = a_call()

        assert 4.5 < call.remaining_seconds() <= 5
        call.deadline -= 6
        assert call.remaining_seconds() < 0

"""W3C Trace Context: which header is believed, and what goes on."""

import re

import pytest

from service_kit.tracing import TraceContext

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"


class TestTraceparent:
    def test_the_callers_trace_goes_on_under_a_span_of_our_own(self) -> None:
        context = TraceContext.from_metadata({"traceparent": VALID})
        assert (context.trace_id, context.parent_id, context.flags) == (TRACE, PARENT, "01")
        assert re.fullmatch(r"[0-9a-f]{16}", context.span_id)
        assert context.span_id != PARENT
        assert context.traceparent() == f"00-{TRACE}-{context.span_id}-01"

    @pytest.mark.parametrize(
        "header",
        [
            f"cc-{TRACE}-{PARENT}-01",
            f"cc-{TRACE}-{PARENT}-01-what-a-later-version-adds",
        ],
    )
    def test_a_later_version_is_read_as_far_as_we_know_it(self, header: str) -> None:
        context = TraceContext.from_metadata({"traceparent": header})
        assert context.trace_id == TRACE
        assert context.traceparent().startswith("00-")

    @pytest.mark.parametrize(("flags", "sent_on"), [("00", "00"), ("03", "03"), ("ff", "03")])
    def test_only_the_flags_we_know_are_sent_on(self, flags: str, sent_on: str) -> None:
        context = TraceContext.from_metadata({"traceparent": f"00-{TRACE}-{PARENT}-{flags}"})
        assert context.traceparent().endswith(f"-{sent_on}")

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "00",
            f"ff-{TRACE}-{PARENT}-01",
            f"00-{'0' * 32}-{PARENT}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            VALID.upper(),
            f"{VALID}-more",
            f"{VALID} ",
            f"cc-{TRACE}-{PARENT}-01more",
            f"00-{TRACE[:-1]}-{PARENT}-01",
            f"00-{TRACE}-{PARENT}-1",
        ],
    )
    def test_an_invalid_one_is_as_if_there_were_none(self, header: str) -> None:
        context = TraceContext.from_metadata({"traceparent": header})
        assert context.trace_id != TRACE
        assert context.parent_id == ""


class TestTraceId:
    @pytest.mark.parametrize("given", [TRACE, TRACE.upper()])
    def test_names_the_trace_if_there_is_no_traceparent(self, given: str) -> None:
        context = TraceContext.from_metadata({"x-trace-id": given})
        assert (context.trace_id, context.parent_id) == (TRACE, "")

    def test_yields_to_traceparent(self) -> None:
        metadata = {"traceparent": VALID, "x-trace-id": "a" * 32}
        assert TraceContext.from_metadata(metadata).trace_id == TRACE

    def test_is_used_if_traceparent_is_invalid(self) -> None:
        metadata = {"traceparent": "nonsense", "x-trace-id": TRACE}
        assert TraceContext.from_metadata(metadata).trace_id == TRACE

    @pytest.mark.parametrize("given", ["", "0" * 32, TRACE[:-1], TRACE + "0", "g" * 32])
    def test_that_is_no_trace_id_is_replaced(self, given: str) -> None:
        trace_id = TraceContext.from_metadata({"x-trace-id": given}).trace_id
        assert re.fullmatch(r"[0-9a-f]{32}", trace_id)
        assert trace_id != given


def test_every_new_trace_is_another() -> None:
    assert TraceContext.new().trace_id != TraceContext.new().trace_id

"""The log is one line of JSON per event, whoever wrote it, and never fails the caller."""

import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from service_kit.logging import RepeatedLine, configure, get_logger
from tests.nasty_texts import LOG

NOTHING: dict[object, str] = {}
# All but the tab and the line break.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().decode().splitlines()]


class TestJson:
    def test_is_one_object_per_line_with_service_level_and_time(self) -> None:
        stream = io.BytesIO()
        configure("shop", stream=stream)
        get_logger().info("rpc", method="/shop.v1.Shop/Buy", code="OK", replayed="")
        get_logger().warning("peer.slow", seconds=2.5)
        first, second = lines(stream)
        assert first.pop("timestamp").endswith("Z")
        assert first == {
            "event": "rpc",
            "method": "/shop.v1.Shop/Buy",
            "code": "OK",
            "replayed": "",
            "level": "info",
            "service": "shop",
        }
        assert (second["level"], second["seconds"]) == ("warning", 2.5)

    def test_leaves_out_what_is_only_for_debugging(self) -> None:
        stream = io.BytesIO()
        configure("shop", stream=stream)
        get_logger().debug("detail")
        assert lines(stream) == []

    def test_threat_12_keeps_an_event_on_one_line_whatever_it_holds(self) -> None:
        stream = io.BytesIO()
        configure("shop", stream=stream)
        get_logger().info("a\nb\u2028c\u0085", value=object)
        [line] = lines(stream)
        assert line["event"] == "a\nb\u2028c\u0085"
        assert line["value"] == "<class 'object'>"

    def test_threat_12_shows_a_traceback_without_the_values_of_variables(self) -> None:
        stream = io.BytesIO()
        configure("shop", stream=stream)
        payment_token = "tok_" + "visa"
        try:
            NOTHING[len(payment_token)]
        except KeyError:
            get_logger().exception("rpc.failed")
        [line] = lines(stream)
        assert "KeyError: 8" in line["exception"]
        assert payment_token not in stream.getvalue().decode()

    def test_goes_to_standard_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdout", stream)
        configure("shop")
        get_logger().info("listening")
        assert isinstance(stream.buffer, io.BytesIO)
        assert lines(stream.buffer)[0]["event"] == "listening"


class TestARepeatedLine:
    def test_is_what_a_logger_writes(self) -> None:
        stream = io.BytesIO()
        configure("100 % shop", stream=stream)
        line = RepeatedLine("rpc %s", "method", "duration_ms", "entries", "%")
        for text in (*LOG, "", "50 %", "Grüße", "a\nb\u2028c", "\ud800"):
            get_logger().info("rpc %s", method=text, duration_ms=0.25, entries=3, **{"%": text})
            line.write(text, 0.25, 3, text)
        written = stream.getvalue().splitlines()
        logged, repeated = ([_without_time(line) for line in written[i::2]] for i in (0, 1))
        assert repeated == logged
        assert all(json.loads(line)["timestamp"].endswith("Z") for line in written)

    def test_has_a_value_for_each_field(self) -> None:
        for json_ in (True, False):
            configure("shop", json=json_, stream=io.BytesIO())
            line = RepeatedLine("rpc", "method", "code")
            for values in (["/Buy"], ["/Buy", "OK", "more"]):
                with pytest.raises((TypeError, ValueError)):
                    line.write(*values)

    def test_is_shown_to_people_as_any_other(self) -> None:
        stream = Terminal()
        configure("shop", stream=stream)
        RepeatedLine("rpc", "method").write("/Buy\x1b[2J")
        shown = stream.getvalue().decode()
        assert "rpc" in shown
        assert "/Buy\\x1b[2J" in shown

    def test_is_left_out_with_everything_of_its_level(self) -> None:
        with capture_logs() as log:
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
            RepeatedLine("rpc", "method").write("/Buy")
        assert log == []


def _without_time(line: bytes) -> bytes:
    return re.sub(rb'"timestamp":"[^"]*"', b"", line)


class TestOtherLibraries:
    def test_tell_their_warnings_in_the_same_stream(self) -> None:
        stream = io.BytesIO()
        configure("shop", stream=stream)
        logging.getLogger("grpc").error("call %s failed", 7)
        logging.getLogger("alembic.runtime").info("Running upgrade")
        [line] = lines(stream)
        assert (line["event"], line["logger"], line["level"]) == ("call 7 failed", "grpc", "error")

    def test_tell_their_exceptions(self) -> None:
        stream = io.BytesIO()
        configure("shop", stream=stream)
        try:
            NOTHING["broken"]
        except KeyError:
            logging.getLogger("grpc").exception("poller")
        assert "KeyError: 'broken'" in lines(stream)[0]["exception"]

    def test_warn_into_the_log(self) -> None:
        stream = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            configure("shop", stream=stream)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            logging.captureWarnings(capture=False)
        assert "DeprecationWarning: old" in lines(stream)[0]["event"]


class TestTerminal:
    def test_gets_lines_for_people(self) -> None:
        stream = Terminal()
        configure("shop", stream=stream)
        get_logger().info("listening", address="127.0.0.1:1")
        shown = stream.getvalue().decode()
        assert "listening" in shown
        assert "\x1b[" in shown
        assert not shown.startswith("{")

    def test_gets_json_if_asked_for(self) -> None:
        stream = Terminal()
        configure("shop", json=True, stream=stream)
        get_logger().info("listening")
        assert lines(stream)[0]["event"] == "listening"

    def test_lines_go_to_a_file_without_colours(self) -> None:
        stream = io.BytesIO()
        configure("shop", json=False, stream=stream)
        secret = "tok_" + "visa"
        try:
            NOTHING[len(secret)]
        except KeyError:
            get_logger().exception("rpc.failed")
        shown = stream.getvalue().decode()
        assert "KeyError: 8" in shown
        assert "\x1b[" not in shown
        assert secret not in shown

    def test_threat_12_does_not_obey_what_is_logged(self) -> None:
        stream = io.BytesIO()
        configure("shop", json=False, stream=stream)
        for text in LOG:
            get_logger().info("rpc", caller=text)
            get_logger().info(text)
        shown = stream.getvalue().decode()
        assert not CONTROL.search(shown)
        assert "\\x1b[2J" in shown


def test_a_log_that_nobody_reads_any_more_fails_no_call() -> None:
    stream = io.BytesIO()
    configure("shop", stream=stream)
    log = get_logger()
    log.info("rpc")
    stream.close()
    log.info("rpc")

"""The log: one JSON object a line on standard output, or something readable on a terminal."""

import json as json_
import logging
import re
import sys
import threading
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, BinaryIO, Final

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from service_kit.clock import SystemClock

get_logger = structlog.get_logger

_clock: Final = SystemClock()


def configure(service: str, *, json: bool | None = None, stream: BinaryIO | None = None) -> None:
    """Send this process's log to `stream` (default: standard output) as `service`.

    `json` chooses the form; None means readable on a terminal and JSON elsewhere. Warnings
    of other libraries come along.
    """
    stream = stream or sys.stdout.buffer
    if json is None:
        json = not stream.isatty()
    writer = _Writer(stream, service, is_json=json)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _named(service),
            # Text only: tracebacks with the values of variables would show tokens.
            structlog.processors.format_exc_info,
            _to_json if json else _Readable(colors=stream.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: writer,
        # Assembling a logger costs more than writing a line.
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_IntoStructlog()]
    root.setLevel(logging.WARNING)
    # It shows headers that are not UTF-8, whole: whatever a caller puts there, and at what length.
    logging.getLogger("grpc._cython").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


class _Writer:
    """Writes lines. A log that cannot be written must not fail the call it tells about."""

    def __init__(self, stream: BinaryIO, service: str, *, is_json: bool) -> None:
        self.service = service
        self.is_json = is_json
        self._stream = stream
        self._lock = threading.Lock()

    def msg(self, line: bytes) -> None:
        with self._lock:
            try:
                self._stream.write(line + b"\n")
                self._stream.flush()
            except (OSError, ValueError):  # the reader went away; the stream is closed
                return

    debug = info = warning = error = critical = exception = log = msg


class RepeatedLine:
    """A line that every call writes: one event, and the same fields in the same order.

    It is what `get_logger().info` writes, at less than half of the cost.
    """

    def __init__(self, event: str, *names: str) -> None:
        self._event = event
        self._names = names
        self._log: FilteringBoundLogger = get_logger()
        writer = structlog.get_config()["logger_factory"]()
        self._writer = writer if isinstance(writer, _Writer) and writer.is_json else None
        self._form = _form(event, names, writer.service) if self._writer else ""

    def write(self, *values: str | float) -> None:
        """Write it at level info, with a value for each field."""
        if self._writer is None:
            self._log.info(self._event, **dict(zip(self._names, values, strict=True)))
            return
        now = _clock.now().isoformat().replace("+00:00", "Z")
        shown = [_quoted(v) if isinstance(v, str) else repr(v) for v in (*values, now)]
        self._writer.msg((self._form % tuple(shown)).encode())


def _form(event: str, names: Sequence[str], service: str) -> str:
    """Make a line of JSON with %s for each value and for the time."""

    def constant(text: str) -> str:
        return _quoted(text).replace("%", "%%")

    fields = {
        "event": constant(event),
        **dict.fromkeys(names, "%s"),
        "level": constant("info"),
        "timestamp": "%s",
        "service": constant(service),
    }
    return "{" + ",".join(f"{constant(name)}:{value}" for name, value in fields.items()) + "}"


class _Readable:
    """Renders for people."""

    def __init__(self, *, colors: bool) -> None:
        self._render = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> bytes:
        # What a terminal would obey is shown to people instead; JSON escapes it anyway.
        shown = {key: _tamed(value) for key, value in event.items()}
        return self._render(logger, name, shown).encode()


_OBEYED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def _tamed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return _OBEYED.sub(lambda found: f"\\x{ord(found[0]):02x}", value)


class _IntoStructlog(logging.Handler):
    """Passes the standard library's records on."""

    def __init__(self) -> None:
        super().__init__()
        self._log: FilteringBoundLogger = structlog.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )


def _named(service: str) -> structlog.typing.Processor:
    def add_service(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add_service


# ASCII only: no separator that a terminal or a line-based tool takes for a line break survives.
_encode: Final = json_.JSONEncoder(separators=(",", ":"), default=repr).encode


def _to_json(_logger: WrappedLogger, _name: str, event: EventDict) -> bytes:
    line: dict[str, Any] = {"event": event.pop("event"), **event}
    return _encode(line).encode()

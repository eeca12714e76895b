"""The log as it is written: the real configuration, into memory instead of standard output."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
import structlog

from service_kit.logging import configure


class CapturedLog:
    """Everything logged since it was opened."""

    def __init__(self, stream: BytesIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        """All of it, as written."""
        return self._stream.getvalue().decode()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of an event, in order. Every line of the log must be a JSON object."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["event"] == event]


@contextmanager
def captured_log() -> Iterator[CapturedLog]:
    """Take the log of everything that is made within the block: a logger keeps its stream."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = BytesIO()
    configure("test", json=True, stream=stream)
    try:
        yield CapturedLog(stream)
    finally:
        logging.captureWarnings(capture=False)
        root.handlers = handlers
        root.setLevel(level)
        structlog.reset_defaults()


@pytest.fixture
def log() -> Iterator[CapturedLog]:
    """The log of everything that the test makes after asking for this."""
    with captured_log() as log:
        yield log

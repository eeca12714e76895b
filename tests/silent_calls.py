"""Calls that send their headers and never a message."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from tests.client import Metadata
from tests.waiting import eventually


@contextmanager
def silent_calls(
    channel: grpc.Channel, method: str, number: int, metadata: Metadata = ()
) -> Iterator[list[Any]]:
    """Begin so many, and end them with the block. Each is an iterator of what it gets."""
    over = threading.Event()

    def say_nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    begin: Any = channel.stream_stream(method)
    calls = [begin(say_nothing(), metadata=tuple(metadata)) for _ in range(number)]
    try:
        yield calls
    finally:
        for call in calls:
            call.cancel()
        over.set()


def code_of(call: Any) -> grpc.StatusCode:
    """Wait for the end of a call, and return what it ended with."""
    eventually(lambda: not call.is_active())
    code: grpc.StatusCode = call.code()
    return code

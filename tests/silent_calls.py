"""Calls that send their headers and never a message."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    begin: Any = channel.stream_stream(method)
    calls = [begin(_nothing(over), metadata=tuple(metadata)) for _ in range(number)]
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


@contextmanager
def silence(channels: Sequence[grpc.Channel], method: str, number: int) -> Iterator[None]:
    """Keep so many calls waiting on each connection for the block: for each that ends, another."""
    over = threading.Event()

    def keep_up(channel: grpc.Channel) -> None:
        begin: Any = channel.stream_stream(method)
        calls: list[Any] = []
        while not over.wait(0.02):
            calls = [call for call in calls if call.is_active()]
            calls += [begin(_nothing(over)) for _ in range(number - len(calls))]
        for call in calls:
            call.cancel()

    with ThreadPoolExecutor(len(channels)) as threads:
        keeping = [threads.submit(keep_up, channel) for channel in channels]
        try:
            yield
        finally:
            over.set()
    for kept in keeping:
        kept.result()


def _nothing(over: threading.Event) -> Iterator[bytes]:
    over.wait()
    yield from ()

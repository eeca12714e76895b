"""The streams of a server: so many at a time, on threads of their own, ended by the drain.

A stream that sends keeps its thread while its reader is slow. That harms nobody: the thread is
the stream's own, and holds one message and no connection to the database.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc

from service_kit.call_pool import CallPool
from service_kit.errors import Overloaded, ServerDraining
from service_kit.stream import CallerGone, Stream

# What readers get to take the end of their stream when the server drains.
_FAREWELL_SECONDS: Final = 0.5


class Streams:
    """Opens at most `limit` streams at a time. Their handlers run on `pool`."""

    def __init__(self, *, limit: int) -> None:
        self.pool = CallPool(limit, thread_name_prefix="stream")
        self.limit = limit
        self._open: set[Stream] = set()
        # Longer than it is open: until grpc has nothing of it left to send.
        self._unfinished: dict[Stream, grpc.ServicerContext] = {}
        self._is_draining = False
        self._changed = threading.Condition()

    @contextmanager
    def opened(self, context: grpc.ServicerContext) -> Iterator[Stream]:
        """Hold a stream for the block. Raises Overloaded, ServerDraining."""
        stream = Stream()
        with self._changed:
            if self._is_draining:
                raise ServerDraining
            if len(self._open) >= self.limit:
                raise Overloaded
            self._open.add(stream)
            self._unfinished[stream] = context
        try:
            self._watch_over(stream, context)
            yield stream
        finally:
            with self._changed:
                self._open.remove(stream)

    @property
    def any_is_open(self) -> bool:
        """Say whether there is anybody to wake."""
        return bool(self._open)

    def wake(self) -> None:
        """Have every open stream look around."""
        for stream in self._all():
            stream.wake()

    def end(self, why: Exception) -> None:
        """Have every open stream end with this."""
        for stream in self._all():
            stream.end(why)

    def drain(self) -> None:
        """Open no more, end those there are, and cut off who does not take the end."""
        with self._changed:
            self._is_draining = True
        self.end(ServerDraining())
        with self._changed:
            self._changed.wait_for(lambda: not self._unfinished, _FAREWELL_SECONDS)
            stuck = list(self._unfinished.values())
        # Not under the lock, which `finished` takes.
        for context in stuck:
            context.cancel()

    def close(self) -> None:
        """Let the threads go, once no call can come any more."""
        self.pool.shutdown(wait=False)

    def _watch_over(self, stream: Stream, context: grpc.ServicerContext) -> None:
        def finished() -> None:
            stream.end(CallerGone())
            with self._changed:
                self._unfinished.pop(stream, None)
                self._changed.notify_all()

        if not context.add_callback(finished):  # the caller has gone already
            finished()

    def _all(self) -> list[Stream]:
        with self._changed:
            return list(self._open)

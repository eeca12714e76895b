"""How long a call may keep a thread waiting for its request.

gRPC hands a call over as soon as its headers are there, and has a thread wait for the message.
A caller that never sends one would keep the thread for as long as its connection lasts.
"""

import math
import threading
import time
from collections.abc import Iterator
from typing import Final, TypeVar

import grpc

from service_kit.stream import CallerGone

# Headers and message of an honest call leave together; this is for a bad line.
REQUEST_SECONDS: Final = 5.0
# Nobody is sent away for others' sake before that.
_GRACE_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.25

M = TypeVar("M")


class NoRequest(Exception):
    """The caller ended its side of the call without a message."""


class WaitingRoom:
    """Where calls of one kind wait for their message, each at most so many seconds.

    While there are more than `roomy`, those that have waited longest leave almost at once: so
    silent callers never keep all threads from the others for long.
    """

    def __init__(self, *, seconds: float, roomy: int) -> None:
        self._seconds = seconds
        self._roomy = roomy
        # In the order in which they came.
        self._since: dict[grpc.ServicerContext, float] = {}
        self._changing = threading.Lock()

    def next_message(self, messages: Iterator[M], context: grpc.ServicerContext) -> M:
        """Wait for the next message of a call. Raises NoRequest, CallerGone."""
        with self._changing:
            self._since[context] = time.monotonic()
        try:
            return next(messages)
        except StopIteration:
            raise NoRequest from None
        except grpc.RpcError:  # cancelled, by the caller or by us
            raise CallerGone from None
        finally:
            with self._changing:
                del self._since[context]

    def cut_off(self, now: float) -> None:
        """End the calls that have waited long enough."""
        with self._changing:
            too_many = len(self._since) - self._roomy
            overdue = [
                context
                for place, (context, since) in enumerate(self._since.items())
                if now - since >= (_GRACE_SECONDS if place < too_many else self._seconds)
            ]
        for context in overdue:
            context.cancel()


class Patience:
    """Looks after waiting rooms, from `start` to `stop`."""

    def __init__(self, *, seconds: float = REQUEST_SECONDS) -> None:
        self._seconds = seconds
        self._rooms: list[WaitingRoom] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="patience", daemon=True)

    def room(self, *, roomy: int, seconds: float | None = None) -> WaitingRoom:
        """Open one more, before the start."""
        room = WaitingRoom(seconds=self._seconds if seconds is None else seconds, roomy=roomy)
        self._rooms.append(room)
        return room

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for nobody any more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._look(math.inf)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        for room in self._rooms:
            room.cut_off(now)

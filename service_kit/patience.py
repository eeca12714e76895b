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

from service_kit.logging import get_logger
from service_kit.stream import CallerGone

# Headers and message of an honest call leave together; this is for a bad line.
REQUEST_SECONDS: Final = 5.0
# Nobody is sent away for others' sake before that. Where everybody may enter it has to be short;
# where callers are known first it is longer than a busy server needs to look at a message.
GRACE_FOR_ALL_SECONDS: Final = 0.1
GRACE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.05

M = TypeVar("M")


class NoRequest(Exception):
    """The caller ended its side of the call without a message."""


class WaitingRoom:
    """Where calls of one kind wait for their message, each at most so many seconds.

    While there are more than `roomy`, those that have waited longest leave after `grace_seconds`:
    so silent callers never keep all threads from the others for long.
    """

    def __init__(self, *, seconds: float, roomy: int, grace_seconds: float) -> None:
        self._seconds = seconds
        self._roomy = roomy
        self._grace_seconds = min(grace_seconds, seconds)
        # In the order in which they came. Each operation on it is one step of the interpreter: a
        # lock would be waited for by every call.
        self._since: dict[grpc.ServicerContext, float] = {}

    def next_message(self, messages: Iterator[M], context: grpc.ServicerContext) -> M:
        """Wait for the next message of a call. Raises NoRequest, CallerGone."""
        now = time.monotonic()
        self._since[context] = now
        if len(self._since) > self._roomy:
            self.cut_off(now)
        try:
            message = next(messages)
        except StopIteration:
            raise NoRequest from None
        except grpc.RpcError:  # cancelled, by the caller or by us
            raise CallerGone from None
        finally:
            was_let_wait = self._left(context)
        # The message of a call that is being cut off may come all the same; its caller is told
        # that the call has ended, and nothing may be done for it.
        if not was_let_wait:
            raise CallerGone
        return message

    def cut_off(self, now: float) -> None:
        """End the calls that have waited long enough."""
        waiting = self._since.copy()
        too_many = len(waiting) - self._roomy
        for place, (context, since) in enumerate(waiting.items()):
            seconds = self._grace_seconds if place < too_many else self._seconds
            if now - since >= seconds and self._left(context):
                _end(context)

    def _left(self, context: grpc.ServicerContext) -> bool:
        """Have a call leave; say whether it is this that made it leave."""
        return self._since.pop(context, None) is not None


def _end(context: grpc.ServicerContext) -> None:
    try:
        context.cancel()
    except Exception as error:  # noqa: BLE001 - the others have to be ended all the same
        get_logger().error("patience.failed", exc_info=error)


class Patience:
    """Looks after waiting rooms, from `start` to `stop`."""

    def __init__(self, *, seconds: float = REQUEST_SECONDS) -> None:
        self._seconds = seconds
        self._rooms: list[WaitingRoom] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="patience", daemon=True)
        self._log = get_logger()

    def room(
        self, *, roomy: int, grace_seconds: float, seconds: float | None = None
    ) -> WaitingRoom:
        """Open one more, before the start."""
        room = WaitingRoom(
            seconds=self._seconds if seconds is None else seconds,
            roomy=roomy,
            grace_seconds=grace_seconds,
        )
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
            try:
                self._look(time.monotonic())
            except Exception as error:  # noqa: BLE001 - or silent calls would stay for ever
                self._log.error("patience.failed", exc_info=error)

    def _look(self, now: float) -> None:
        for room in self._rooms:
            room.cut_off(now)

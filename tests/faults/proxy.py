"""A line between two programs that breaks as lines do, when a test says so.

It passes bytes and knows nothing of what they mean. One thread does it all, so that what a test
asks for happens between two pieces of data and never in the middle of one.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Self, TypeVar

_CHUNK: Final = 65536
# A request arrives in one or two pieces; after such a pause there is no more of it.
_QUIET_SECONDS: Final = 0.05
_CONTROL_SECONDS: Final = 10.0

T = TypeVar("T")


class Way(Enum):
    """Where bytes go."""

    REQUEST = auto()
    REPLY = auto()


class Effect(Enum):
    """What happens to a connection whose bytes meet the fault."""

    # It ends on both sides. Once.
    CUT = auto()
    # It looks alive on both sides, and nothing arrives on either any more.
    SWALLOW = auto()
    # What goes the fault's way arrives in pieces, with a pause before each.
    SLOW = auto()
    # It ends for the caller; the other side gets what was sent when that is released. Once.
    HOLD = auto()


@dataclass(frozen=True)
class Fault:
    """Strikes when so many bytes more have passed, on whichever connection comes next."""

    effect: Effect
    way: Way
    after_bytes: int = 0
    piece: int = _CHUNK
    pause_seconds: float = 0.0


@dataclass(eq=False)
class _Link:
    """One connection and its continuation on the other side."""

    caller: asyncio.StreamWriter
    server: asyncio.StreamWriter
    is_lost: bool = False
    held: bytearray = field(default_factory=bytearray)
    parting: asyncio.TimerHandle | None = None

    @property
    def is_held(self) -> bool:
        return self.parting is not None

    def end(self) -> None:
        for side in (self.caller, self.server):
            side.transport.abort()


class Proxy:
    """Listens on `address` and passes on to wherever it leads.

    Until it is told where that is, callers wait. `passed` counts the bytes; `struck` is set when
    the fault has met some.
    """

    def __init__(self) -> None:
        self.passed = dict.fromkeys(Way, 0)
        self.struck = threading.Event()
        self._fault: Fault | None = None
        self._bytes_left = 0
        self._is_refusing = False
        self._target: tuple[str, int] = ("", 0)
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._connect, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(
            _CONTROL_SECONDS
        )
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._has_target = asyncio.Event()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_CONTROL_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CONTROL_SECONDS)
        self._loop.close()

    def lead_to(self, address: str) -> None:
        """Pass on to this `host:port`, from the next connection on."""
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._do(self._has_target.set)

    def arm(self, fault: Fault) -> None:
        """Have the fault strike; only the last one counts."""

        def arm() -> None:
            self._fault, self._bytes_left = fault, fault.after_bytes
            self.struck.clear()

        self._do(arm)

    def refuse(self, *, refuse: bool = True) -> None:
        """End every new connection at once, or no more."""
        self._do(lambda: setattr(self, "_is_refusing", refuse))

    def end_connections(self) -> None:
        """End those that there are, whatever they carry."""

        def end() -> None:
            for link in list(self._links):
                link.end()

        self._do(end)

    def heal(self) -> None:
        """Be a line without faults. Lost and held connections end, nothing of them arrives."""

        def heal() -> None:
            self._fault, self._is_refusing = None, False
            for link in [one for one in self._links if one.is_lost or one.is_held]:
                link.end()

        self._do(heal)

    def forget_lost_connections(self) -> None:
        """Be without faults for new connections, while nobody learns that old ones are lost."""
        self._do(lambda: setattr(self, "_fault", None))

    def release(self) -> int:
        """Deliver what was held, and say how many bytes that were."""

        def release() -> int:
            count = 0
            for link in self._links:
                if link.is_held:
                    count += len(link.held)
                    link.server.write(bytes(link.held))
                    link.held.clear()
            return count

        return self._do(release)

    def _do(self, action: Callable[[], T]) -> T:
        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(_CONTROL_SECONDS)

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in self._links:
            link.end()

    async def _connect(
        self, from_caller: asyncio.StreamReader, caller: asyncio.StreamWriter
    ) -> None:
        await self._has_target.wait()
        if self._is_refusing:
            self.struck.set()
            caller.transport.abort()
            return
        try:
            from_server, server = await asyncio.open_connection(*self._target)
        except OSError:
            caller.transport.abort()
            return
        link = _Link(caller, server)
        self._links.add(link)
        # The answer to a held request is nobody's: it is taken and dropped.
        await asyncio.gather(
            self._pump(link, Way.REQUEST, from_caller),
            self._pump(link, Way.REPLY, from_server),
        )
        link.end()
        self._links.discard(link)

    async def _pump(self, link: _Link, way: Way, source: asyncio.StreamReader) -> None:
        sink = link.server if way is Way.REQUEST else link.caller
        try:
            while data := await source.read(_CHUNK):
                await self._pass_on(link, way, data, sink)
        except OSError:
            pass
        if not (link.is_held and way is Way.REQUEST):
            link.end()

    async def _pass_on(
        self, link: _Link, way: Way, data: bytes, sink: asyncio.StreamWriter
    ) -> None:
        if link.is_lost:
            return
        if link.is_held:
            self._hold(link, way, data)
            return
        fault = self._fault
        if fault is None or fault.way is not way:
            self._write(way, data, sink)
            return
        before, rest = data[: self._bytes_left], data[self._bytes_left :]
        self._bytes_left -= len(before)
        self._write(way, before, sink)
        if self._bytes_left:
            return
        self.struck.set()
        match fault.effect:
            case Effect.CUT:
                self._fault = None
                link.end()
            case Effect.SWALLOW:
                link.is_lost = True
            case Effect.SLOW:
                for start in range(0, len(rest), fault.piece):
                    await asyncio.sleep(fault.pause_seconds)
                    self._write(way, rest[start : start + fault.piece], sink)
            case Effect.HOLD:
                self._fault = None
                self._hold(link, way, rest)

    def _hold(self, link: _Link, way: Way, data: bytes) -> None:
        if way is not Way.REQUEST:
            return
        link.held += data
        if link.parting:
            link.parting.cancel()
        link.parting = self._loop.call_later(_QUIET_SECONDS, link.caller.transport.abort)

    def _write(self, way: Way, data: bytes, sink: asyncio.StreamWriter) -> None:
        self.passed[way] += len(data)
        sink.write(data)

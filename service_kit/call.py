"""The call being served: who calls, under which trace, until when."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from service_kit.stream import Stream
from service_kit.tracing import TraceContext

# The one role that sees only what is its own.
CUSTOMER = "customer"


class Principal(NamedTuple):
    """The authenticated caller that holds the connection; never the person acted for."""

    role: str
    id: str


@dataclass
class Call:
    """One RPC in progress.

    `deadline` is in seconds of `time.monotonic()`. `replayed_from` names the store
    (`database` or `redis`) if the reply is a stored one, `reason` the error reason if the
    call is refused, `stream` what the call sends with if it has many responses; all are
    filled in on the way. `peer` is what its connection's certificate is known by.
    """

    method: str
    principal: Principal
    on_behalf_of: str
    trace: TraceContext
    deadline: float
    replayed_from: str = ""
    reason: str = field(default="")
    stream: Stream | None = None
    peer: str = ""

    def remaining_seconds(self) -> float:
        """Say how many seconds the caller will still wait; negative when it is over."""
        return self.deadline - time.monotonic()

    def within(self, seconds: float) -> "Call":
        """Return the call with no more than so many seconds from now."""
        return replace(self, deadline=min(self.deadline, time.monotonic() + seconds))

    def open_stream(self) -> Stream:
        """Return the stream that the call sends with. Only a streaming RPC has one."""
        assert self.stream is not None
        return self.stream


_current: ContextVar[Call] = ContextVar("call")


def current() -> Call:
    """Return the call that this thread serves. Raises LookupError outside of one."""
    return _current.get()


@contextmanager
def background(name: str, *, seconds: float, trace_id: str = "") -> Iterator[Call]:
    """Give work that no caller waits for what a call has: a trace and so many seconds of time.

    The trace is a new one unless the work goes on with another's.
    """
    trace = TraceContext.new()
    if trace_id:
        trace = trace._replace(trace_id=trace_id)
    deadline = time.monotonic() + seconds
    nobody = Principal(role="", id="")
    with serving(
        Call(method=name, principal=nobody, on_behalf_of="", trace=trace, deadline=deadline)
    ) as call:
        yield call


class serving:  # noqa: N801 - it is read as a verb
    """Make the call the current one for the block."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> Call:
        """Begin the block."""
        self._token = _current.set(self._call)
        return self._call

    def __exit__(self, *_: object) -> None:
        """End the block."""
        _current.reset(self._token)

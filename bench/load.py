"""Calls a service from a process of its own: so many calls, so many at a time, every reply checked.

What to do comes as JSON on standard input, what came of it goes as JSON to standard output. The
calls form a closed loop: whoever has got a reply sends the next request at once.
"""

import asyncio
import base64
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

GRPC: Final = "grpc"
HTTP: Final = "http"
# Fewer than a server allows on one connection, and enough of them that none is the bottleneck.
CALLS_PER_CONNECTION: Final = 32
_CALL_SECONDS: Final = 60.0
_WRONG_SHOWN: Final = 3
# Sooner than advised: a short run would end with nothing but waiting.
_COME_BACK_SECONDS: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send, how many at a time, and what each reply must be.

    `target` is host and port, `method` a gRPC method's full name or an HTTP verb and path. A body
    is a serialized message or JSON in base64; `paths` are appended to the path, one for each body.
    `reply` names the module and class of the reply's message. `expect` says which value each named
    field must have (a dotted path), `code` which status; `collect` which fields are reported. Who
    is told to send the same request again (google.rpc.RetryInfo) does so after a moment, for a
    minute at most, which counts as waiting. Of HTTP/1.1 a connection carries one call at a time,
    of gRPC `calls_per_connection`.
    """

    protocol: str
    target: str
    method: str
    bodies: Sequence[str]
    concurrency: int
    paths: Sequence[str] = ()
    reply: str = ""
    code: str = "OK"
    expect: Mapping[str, Any] = field(default_factory=dict)
    collect: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    warm_up: int = 0
    calls_per_connection: int = CALLS_PER_CONNECTION


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it: seconds in all and per call, how many calls, what they reported."""

    calls: int
    seconds: float
    p50: float
    p99: float
    longest: float
    # By what they had been told.
    came_back: Mapping[str, int] = field(default_factory=dict)
    wrong: int = 0
    examples: Sequence[str] = ()
    collected: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True)
class Answer:
    """What a call came to: the status, what reads the reply, and whether to come back."""

    code: str
    read: Callable[[str], Any]
    may_come_back: bool = False


# Makes the call of a number.
Call = Callable[[int], Awaitable[Answer]]


async def run(load: Load, ready: Callable[[], object]) -> Outcome:
    """Make the calls. `ready` is called before the first that counts, and may wait."""
    if load.protocol == HTTP:
        # Whoever calls by gRPC does not wait for it to be imported, again for each run.
        import aiohttp  # noqa: PLC0415

        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers=dict(load.headers)
        ) as session:
            return await _measure(load, _http_call(load, session), ready)
    channels = [
        # nosemgrep: plaintext-channel - it is measured on one machine
        grpc.aio.insecure_channel(load.target, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(math.ceil(load.concurrency / load.calls_per_connection))
    ]
    try:
        return await _measure(load, _grpc_call(load, channels), ready)
    finally:
        for channel in channels:
            await channel.close()


def _grpc_call(load: Load, channels: Sequence[grpc.aio.Channel]) -> Call:
    rpcs: list[Any] = [channel.unary_unary(load.method) for channel in channels]
    bodies = [base64.b64decode(body) for body in load.bodies]
    metadata = tuple((name, value) for name, value in load.headers)
    module, _, name = load.reply.rpartition(":")
    parse = getattr(import_module(module), name).FromString if load.reply else None

    async def call(number: int) -> Answer:
        try:
            body = await rpcs[number % len(rpcs)](
                bodies[number], metadata=metadata, timeout=_CALL_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            return Answer(error.code().name, lambda _path: details, _has_advice(error))
        reply = parse(body) if parse else None
        return Answer("OK", lambda path: _field(reply, path))

    return call


def _has_advice(error: grpc.aio.AioRpcError) -> bool:
    try:
        # What a call raises also has what is asked of a call here.
        status = rpc_status.from_call(cast("grpc.Call", error))
    except (ValueError, DecodeError):  # what came with it contradicts it, or is no status
        return False
    return status is not None and any(each.Is(RetryInfo.DESCRIPTOR) for each in status.details)


def _field(reply: Any, path: str) -> Any:
    for name in path.split("."):
        reply = reply[int(name)] if name.isdigit() else getattr(reply, name)
    return reply


def _http_call(load: Load, session: Any) -> Call:
    verb, _, path = load.method.partition(" ")
    bodies = [base64.b64decode(body) or None for body in load.bodies]
    paths = load.paths or [""] * len(bodies)
    url = f"http://{load.target}{path}"
    headers = {"content-type": "application/json"}

    async def call(number: int) -> Answer:
        async with session.request(
            verb, url + paths[number], data=bodies[number], headers=headers
        ) as response:
            body = await response.read()
        if not response.ok:
            return Answer(str(response.status), lambda _path: body.decode())
        reply = json.loads(body)
        return Answer("OK", lambda path: _item(reply, path))

    return call


def _item(reply: Any, path: str) -> Any:
    for name in path.split("."):
        reply = reply[int(name) if name.isdigit() else name]
    return reply


async def _measure(load: Load, call: Call, ready: Callable[[], object]) -> Outcome:
    latencies: list[float] = []
    collected: list[list[Any]] = []
    wrong: list[str] = []
    came_back: Counter[str] = Counter()

    async def caller(numbers: Iterator[int]) -> None:
        for number in numbers:
            began = time.perf_counter()
            answer = await _final(call, number, came_back)
            latencies.append(time.perf_counter() - began)
            if answer.code != load.code:
                why = "" if answer.code == "OK" else f": {answer.read('')}"
                wrong.append(f"{answer.code} instead of {load.code}{why}")
                continue
            for path, value in load.expect.items():
                if (came := answer.read(path)) != value:
                    wrong.append(f"{path} is {came!r} instead of {value!r}")
            if load.collect:
                collected.append([number, *map(answer.read, load.collect)])

    async def make(first: int, end: int) -> float:
        numbers = iter(range(first, end))
        began = time.perf_counter()
        await asyncio.gather(*(caller(numbers) for _ in range(load.concurrency)))
        return time.perf_counter() - began

    if load.warm_up:
        await make(0, load.warm_up)
        latencies.clear()
    await asyncio.to_thread(ready)
    seconds = await make(load.warm_up, len(load.bodies))
    latencies.sort()
    return Outcome(
        calls=len(latencies),
        seconds=seconds,
        p50=_percentile(latencies, 0.5),
        p99=_percentile(latencies, 0.99),
        longest=latencies[-1],
        came_back=dict(came_back),
        wrong=len(wrong),
        examples=wrong[:_WRONG_SHOWN],
        collected=[values for _, *values in sorted(collected)],
    )


async def _final(call: Call, number: int, came_back: Counter[str]) -> Answer:
    """Make a call, again while its answer says so, which is counted."""
    give_up_at = time.perf_counter() + _CALL_SECONDS
    answer = await call(number)
    while answer.may_come_back and time.perf_counter() < give_up_at:
        came_back[answer.code] += 1
        await asyncio.sleep(_COME_BACK_SECONDS)
        answer = await call(number)
    return answer


def _percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of the sorted values does not exceed."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def _tell_ready() -> None:
    """Have the measuring process look at the clocks before the first call that counts."""
    sys.stdout.write("\n")
    sys.stdout.flush()
    sys.stdin.readline()


def main() -> int:
    """Do what standard input says, and leave what came of it in the file that is named."""
    # In the environment of the measurements only.
    import uvloop  # noqa: PLC0415

    load = Load(**json.loads(sys.stdin.readline()))
    outcome = uvloop.run(run(load, _tell_ready))
    Path(sys.argv[1]).write_text(json.dumps(asdict(outcome)))
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

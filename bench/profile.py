"""make bench-profile: what the processor time of a call goes to, in the services and in the floor.

py-spy looks a hundred times a second at which thread holds the interpreter, and where it is, while
calls are under way, sixteen at a time. Each look counts for the part of the program that its
innermost frame belongs to. What is left of the processor time was spent outside the interpreter: by
grpc's own threads, by the kernel, by libraries that let other threads go on.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.cases import GOAL_CONCURRENCY
from bench.results import keep
from bench.run import machine
from bench.subjects import Floor, Services, Stage, Subject, running, send
from bench.usage import cpu_seconds
from bench.workloads import CreateOrder, GetOrder, PayOrder, Workload, stock_for

_LOOKS_PER_SECOND: Final = 100
_MICROSECONDS: Final = 1e6
_END_SECONDS: Final = 60
_CALLS: Final = {CreateOrder: 6_000, GetOrder: 8_000, PayOrder: 1_500}

OUTSIDE: Final = "outside the interpreter"
ELSE: Final = "else"
# A frame belongs to the first part that has its file; one of no part, to whom it was called by.
PARTS: Final[Mapping[str, str]] = {
    "grpc and its threads": r"/grpc/|service_kit/call_pool|concurrent/futures",
    "PostgreSQL's driver": r"/psycopg",
    "SQLAlchemy": r"/sqlalchemy/",
    # Before the storages, of which it is one.
    "history and its seals": r"service_kit/audit|_service/storage/audit",
    "statements, rows, transactions": r"service_kit/(statements|compiled|database|connections)"
    r"|_service/storage/|service_kit/recent",
    "idempotency keys": r"service_kit/idempotency/",
    "tickets": r"gateways/tickets|/jwt/",
    "checks of requests": r"service_kit/(validation|card_data)|_service/rpc/limits",
    "messages": r"_service/rpc/|google/protobuf/",
    "caller, limits, line, metrics": r"service_kit/(interceptors|credentials|metrics|logging"
    r"|places|patience|allowances|call\.py|tracing|status|error)|prometheus_client|structlog",
    "the simulated gateway": r"payment_service/gateways/simulated",
    "calls of the payment service": r"order_service/gateways/",
    "decisions": r"_service/(application|domain)/|service_kit/(clock|ids|randomness)",
    "the floor's own": r"bench/floor/",
}
_PATTERNS: Final = {name: re.compile(files) for name, files in PARTS.items()}


def main() -> int:
    """Profile both and print one table for each call."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=float, default=1.0, help="times as many calls")
    options = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    subjects = [Services("services"), Floor("floor")]
    with Stage() as stage, running(subjects, stage):
        for kind, calls in _CALLS.items():
            found[kind.__name__] = {
                subject.name: _profile(kind(), subject, int(calls * options.calls))
                for subject in subjects
            }
            print("\n".join(_table(kind.__name__, found[kind.__name__])), flush=True)
    keep("profile", {"machine": machine(), "calls": found})
    return 0


def parts(stacks: Iterable[str]) -> Counter[str]:
    """Count looks by part, from py-spy's lines of frames, the innermost last, and a number."""
    counted: Counter[str] = Counter()
    for stack in stacks:
        frames, _, looks = stack.rpartition(" ")
        counted[_part(frames.split(";"))] += int(looks)
    return counted


def _part(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        for name, pattern in _PATTERNS.items():
            if pattern.search(frame):
                return name
    return ELSE


def _profile(workload: Workload, subject: Subject, calls: int) -> dict[str, float]:
    """Return µs of processor time for each call, by part."""
    send(workload.load(subject, stock_for(workload, subject, calls // 10), calls // 10))
    stock = stock_for(workload, subject, calls)
    load = replace(workload.load(subject, stock, calls), concurrency=GOAL_CONCURRENCY)
    pids = subject.pids
    with tempfile.TemporaryDirectory() as folder:
        files = {pid: Path(folder) / str(pid) for pid in pids}
        with _looked_at(files):
            outcome, used = send(load, pids=lambda: cpu_seconds(pids))
        looks = sum((parts(file.read_text().splitlines()) for file in files.values()), Counter())
    each = _MICROSECONDS / outcome.calls
    inside = {name: number / _LOOKS_PER_SECOND * each for name, number in looks.items()}
    return {**inside, OUTSIDE: used * each - sum(inside.values())}


@contextmanager
def _looked_at(files: Mapping[int, Path]) -> Iterator[None]:
    """Look at processes for the block, each of which has its file."""
    spies = [
        subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("py-spy")), "record", "--gil"),
                *("--rate", str(_LOOKS_PER_SECOND), "--duration", "unlimited"),
                *("--format", "raw", "--full-filenames", "--output", str(file)),
                *("--pid", str(pid)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for pid, file in files.items()
    ]
    try:
        for spy in spies:
            assert spy.stdout is not None
            spy.stdout.readline()  # it has begun
        yield
    finally:
        for spy in spies:
            spy.send_signal(signal.SIGINT)
        told = [spy.communicate(timeout=_END_SECONDS)[0] for spy in spies]
    for spy, what in zip(spies, told, strict=True):
        if spy.returncode:
            raise RuntimeError(f"py-spy ended with exit code {spy.returncode}: {what}")


def _table(call: str, profiles: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield f"\n### {call}, µs\n\n| part | {' | '.join(profiles)} |\n|---|{'--:|' * len(profiles)}"
    for part in (*PARTS, ELSE, OUTSIDE):
        values = [profile.get(part, 0) for profile in profiles.values()]
        if any(values):
            yield f"| {part} | {' | '.join(f'{value:,.0f}' for value in values)} |"
    sums = (f"{sum(profile.values()):,.0f}" for profile in profiles.values())
    yield f"| together | {' | '.join(sums)} |"


if __name__ == "__main__":
    sys.exit(main())

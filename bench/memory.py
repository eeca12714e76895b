"""make bench-memory: what a service process holds in memory, and whether that grows under load.

Both services over PostgreSQL place, pay and read orders, many at a time, for so many minutes; after
each slice of that time each process's proportional set size is read.
"""

import argparse
import sys
import time
from dataclasses import replace
from typing import Final

from bench.others import MEMORY_GOAL_MB
from bench.results import keep
from bench.run import machine
from bench.subjects import Services, Stage, send
from bench.usage import pss_megabytes
from bench.workloads import CreateOrder, GetOrder, PayOrder, place

_CALLS: Final = 1_000
_CONCURRENCY: Final = 16


def main() -> int:
    """Load the services and print how much memory they have."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    subject = Services("memory")
    lines: list[tuple[float, int, list[float]]] = []
    print("| minute | calls so far | payment service, MB | order service, MB |\n|--:|--:|--:|--:|")
    with Stage() as stage:
        try:
            subject.start(stage)
            began, calls, due = time.monotonic(), 0, 0.0
            while (elapsed := time.monotonic() - began) < options.minutes * 60:
                calls += _slice(subject)
                if elapsed >= due:
                    lines.append((elapsed / 60, calls, [pss_megabytes(p) for p in subject.pids]))
                    print(_line(*lines[-1]), flush=True)
                    due += max(options.minutes * 60 / 20, 1)
            lines.append((options.minutes, calls, [pss_megabytes(p) for p in subject.pids]))
            print(_line(*lines[-1]))
        finally:
            subject.stop()
    most = max(max(megabytes) for _, _, megabytes in lines)
    print(f"\nAt most {most:.0f} MB (goal: ≤ {MEMORY_GOAL_MB:.0f} MB)")
    keep("memory", {"machine": machine(), "minutes": options.minutes, "lines": lines})
    return 0


def _slice(subject: Services) -> int:
    """Make so many calls of each kind. Raises Void if an answer is wrong."""
    stock = place(subject, _CALLS)
    for workload in (PayOrder(), CreateOrder()):
        send(replace(workload.load(subject, stock, _CALLS), concurrency=_CONCURRENCY))
    placed = place(subject, 100)
    send(replace(GetOrder().load(subject, placed, _CALLS), concurrency=_CONCURRENCY))
    return 4 * _CALLS + 100


def _line(minute: float, calls: int, megabytes: list[float]) -> str:
    cells = " | ".join(f"{each:.1f}" for each in megabytes)
    return f"| {minute:.1f} | {calls:,} | {cells} |"


if __name__ == "__main__":
    sys.exit(main())

"""What processes have used, as the kernel counts it: processor time and memory."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_KIBIBYTES_PER_MEGABYTE: Final = 1024
# clock_getcpuclockid(3): of any process, in nanoseconds, with the threads that have ended.
_PROCESS_CLOCK: Final = 2


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return how much processor time processes have used together, user and system, in seconds.

    One that has ended meanwhile counts as nothing.
    """
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)
    return total


def descendants(pid: int) -> list[int]:
    """Return a process and all that it has started, and they."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, tasks.read_text().split())
    return found


def pss_megabytes(pid: int) -> float:
    """Return how much memory a process has, with its share of what it shares with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) / _KIBIBYTES_PER_MEGABYTE
    raise ValueError(f"no Pss of {pid}")

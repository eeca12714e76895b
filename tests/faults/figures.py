"""What a run of the attack has done, counted: the figures that it prints and writes to a file."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
REPORT: Final = ROOT / "build" / "faults.json"


class Figures:
    """Counts and durations of one process. A name ends in what is counted: `kills, named`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, name: str, count: int = 1) -> None:
        """Count so many more."""
        self.counts[name] += count

    def observe(self, name: str, seconds: float) -> None:
        """Note how long something took."""
        self.seconds[name].append(round(seconds, 4))

    def save(self, path: Path) -> None:
        """Write them where the process that collects them finds them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"counts": self.counts, "seconds": self.seconds}))


def collected(files: Iterable[Path]) -> Figures:
    """Add up the figures of several processes."""
    total = Figures()
    for file in files:
        part = json.loads(file.read_text())
        total.counts.update(part["counts"])
        for name, seconds in part["seconds"].items():
            total.seconds[name] += seconds
    return total


def lines(figures: Figures) -> list[str]:
    """Render the figures for people, one to a line."""
    counts = [f"{count:>10,}  {name}" for name, count in sorted(figures.counts.items())]
    durations = [
        f"{percentile(seconds, 50):>9.2f}s  {name}, p50 (p99 {percentile(seconds, 99):.2f} s,"
        f" max {max(seconds):.2f} s, n = {len(seconds)})"
        for name, seconds in sorted(figures.seconds.items())
    ]
    return counts + durations


def missing(figures: Figures, floors: Mapping[str, int]) -> list[str]:
    """List what a whole run owes and has not done."""
    return [
        f"{name}: {figures.counts[name]:,} of {floor:,}"
        for name, floor in floors.items()
        if figures.counts[name] < floor
    ]


def write_report(
    figures: Figures, *, began: float, command: str, path: Path = REPORT, **more: Any
) -> None:
    """Write the figures with what is needed to reproduce them. `began` is in `time.time()`."""
    report: dict[str, Any] = {
        "command": command,
        **more,
        "commit": _commit(),
        "machine": f"{platform.machine()}, {_cpus()} CPUs, Python {platform.python_version()}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "minutes": round((time.time() - began) / 60, 1),
        "counts": dict(sorted(figures.counts.items())),
        "seconds": {
            name: {
                "n": len(seconds),
                "p50": percentile(seconds, 50),
                "p99": percentile(seconds, 99),
                "max": max(seconds),
            }
            for name, seconds in sorted(figures.seconds.items())
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def percentile(values: list[float], percent: int) -> float:
    """Return the smallest value that so many percent of the values do not exceed."""
    if len(values) == 1:
        return values[0]
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 3)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def _cpus() -> int:
    return len(os.sched_getaffinity(0))

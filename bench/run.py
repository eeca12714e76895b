"""Measures cases: every subject in turn, round after round, and every answer and row checked."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.cases import SUBJECTS, Case
from bench.results import keep, kept
from bench.subjects import Stage, Subject, Void, count_rows, running, send
from bench.usage import cpu_seconds, pss_megabytes
from bench.workloads import Nothing, Replay, Rows, Workload, stock_for
from deploy.processes import ROOT

_MICROSECONDS: Final = 1e6
_MILLISECONDS: Final = 1e3
# So long a run takes, about: the first one says how many calls that is.
_TRIAL_CALLS: Final = 200
# PostgreSQL plans a statement anew for the first five times, on each of a server's connections.
_TRIAL_CALLS_OF_EACH: Final = 8
_CONNECTIONS_MAX: Final = 64
_CALLS_MIN: Final = 100
_CALLS_MAX: Final = 20_000


@dataclass(frozen=True)
class Size:
    """How much is measured: rounds, and seconds that a run shall take."""

    rounds: int = 5
    seconds: float = 1.5
    concurrencies: Sequence[int] = ()


@dataclass
class Series:
    """The rounds of one subject at one concurrency; each measure has a value for each round."""

    subject: str
    concurrency: int
    calls: int
    values: dict[str, list[float]] = field(default_factory=dict)
    came_back: int = 0
    # By process: the payment service's first, one that has workers before them.
    memory_mb: Mapping[str, float] = field(default_factory=dict)

    def median(self, measure: str) -> float:
        """Return the median of the rounds."""
        return statistics.median(self.values[measure])


def measure(case: Case, size: Size, stage: Stage, say: Callable[[str], None]) -> list[Series]:
    """Measure a case. Raises Void."""
    subjects = [SUBJECTS[name]() for name in case.subjects]
    found: list[Series] = []
    with running(subjects, stage):
        for concurrency in size.concurrencies or case.concurrencies:
            series = [_trial(case, subject, concurrency, size, stage) for subject in subjects]
            for number in range(size.rounds):
                say(f"{case.title}: {concurrency} at a time, round {number + 1} of {size.rounds}")
                for subject, one in zip(subjects, series, strict=True):
                    _add_round(case, subject, one, stage)
            for subject, one in zip(subjects, series, strict=True):
                one.memory_mb = {str(pid): pss_megabytes(pid) for pid in subject.pids}
            found += series
    return found


def _trial(case: Case, subject: Subject, concurrency: int, size: Size, stage: Stage) -> Series:
    """Warm up, and find out how many calls a run takes."""
    calls = max(_TRIAL_CALLS, _TRIAL_CALLS_OF_EACH * min(concurrency, _CONNECTIONS_MAX))
    trial = Series(subject.name, concurrency, calls)
    _add_round(case, subject, trial, stage)
    wanted = trial.median("calls_per_second") * size.seconds
    calls = int(min(max(wanted, _CALLS_MIN, 4 * concurrency), _CALLS_MAX))
    return Series(subject.name, concurrency, calls)


def _add_round(case: Case, subject: Subject, series: Series, stage: Stage) -> None:
    calls, workload = series.calls, _for(case.workload, subject)
    load = replace(
        workload.load(subject, stock_for(workload, subject, calls), calls),
        concurrency=series.concurrency,
        calls_per_connection=case.calls_per_connection,
    )
    before = _rows(workload, subject)
    pids, postgres = subject.pids, stage.postgres_cpu_seconds()
    outcome, used = send(load, pids=lambda: cpu_seconds(pids))
    postgres = stage.postgres_cpu_seconds() - postgres
    check_rows(workload, calls, before, _rows(workload, subject))
    for name, value in {
        "cpu_us": used / outcome.calls * _MICROSECONDS,
        "postgres_us": postgres / outcome.calls * _MICROSECONDS,
        "calls_per_second": outcome.calls / outcome.seconds,
        "p50_ms": outcome.p50 * _MILLISECONDS,
        "p99_ms": outcome.p99 * _MILLISECONDS,
    }.items():
        series.values.setdefault(name, []).append(value)
    series.came_back += sum(outcome.came_back.values())


def check_rows(workload: Workload, calls: int, before: Rows, after: Rows) -> None:
    """Raise Void unless calls have left as many rows as they must, in each table."""
    for place, count in after.items():
        if count - before[place] != workload.rows[place] * calls:
            raise Void(f"{calls} calls left {count - before[place]} rows in {place[1]}")


def _for(workload: Workload, subject: Subject) -> Workload:
    # An empty RPC stands beside a replay as what it is.
    return Nothing() if isinstance(workload, Replay) and not subject.databases else workload


def _rows(workload: Workload, subject: Subject) -> Rows:
    return {
        (database, table): count_rows(subject.databases[database], table)
        for database, table in workload.rows
        if database in subject.databases
    }


def machine() -> dict[str, Any]:
    """Describe where and what was measured."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit,
    }


def save(case: Case, series: Sequence[Series], size: Size, seconds: float) -> None:
    """Write a case's result where the table finds it."""
    result = {
        "case": case.name,
        "machine": machine(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds),
        "size": asdict(size),
        "series": [asdict(one) for one in series],
    }
    keep(case.name, result)


def saved(case: Case) -> dict[str, Any] | None:
    """Read a case's result, if there is one."""
    result = kept(case.name)
    return result and {**result, "series": [Series(**one) for one in result["series"]]}


def timed_measure(
    case: Case, size: Size, stage: Stage, say: Callable[[str], None]
) -> tuple[list[Series], float]:
    """Measure a case, and say how many seconds that took."""
    began = time.monotonic()
    return measure(case, size, stage, say), time.monotonic() - began

"""The table: medians with their ranges, and goals beside what was reached."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, Final

from bench.cases import Case, Goal
from bench.run import Series

_HEADINGS: Final = {
    "cpu_us": "server CPU, µs/call",
    "postgres_us": "PostgreSQL CPU, µs/call",
    "calls_per_second": "calls/s",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
}
_NAMES: Final = {"cpu_us": "CPU", "calls_per_second": "rate", "p99_ms": "p99"}


def lines(case: Case, result: dict[str, Any]) -> Iterator[str]:
    """Make the table of a case, in Markdown."""
    series: Sequence[Series] = result["series"]
    yield f"### {case.title}"
    yield ""
    yield f"| at a time | who | {' | '.join(_HEADINGS.values())} |"
    yield f"|--:|---|{'--:|' * len(_HEADINGS)}"
    for one in series:
        cells = (_cell(one.values[measure]) for measure in _HEADINGS)
        who = one.subject + (f" ({one.refused} came back)" if one.refused else "")
        yield f"| {one.concurrency} | {who} | {' | '.join(cells)} |"
    yield ""
    last = [one for one in series if one.concurrency == series[-1].concurrency]
    told = "; ".join(f"{one.subject} {_memory(one)}" for one in last)
    yield f"Memory of each process afterwards, MB (PSS): {told}."
    yield ""


def goal_lines(case: Case, result: dict[str, Any]) -> Iterator[str]:
    """Make the rows of the table of goals."""
    for goal in case.goals:
        ratios = _ratios(goal, result["series"])
        if not ratios:
            continue
        ratio = statistics.median(ratios)
        sign = "≥" if goal.is_at_least else "≤"
        reached = f"**{ratio:.2f}** [{min(ratios):.2f} to {max(ratios):.2f}]"
        yield (
            f"| {case.title}, {_NAMES[goal.measure]}, {goal.concurrency} at a time"
            f" | {goal.of} / {_against(goal)} | {sign} {goal.limit:g} | {reached}"
            f" | {'yes' if goal.is_met(ratio) else 'no'} |"
        )


def _against(goal: Goal) -> str:
    is_capped = goal.cap < math.inf
    return f"{goal.against}, at most {goal.cap:,.0f}" if is_capped else goal.against


GOALS_HEAD: Final = ("| What | Ratio | Goal | Reached | Met |", "|---|---|--:|--:|---|")


def _ratios(goal: Goal, series: Sequence[Series]) -> list[float]:
    by_name = {(one.subject, one.concurrency): one.values[goal.measure] for one in series}
    ours = by_name.get((goal.of, goal.concurrency), [])
    theirs = by_name.get((goal.against, goal.concurrency), [])
    return [a / min(b, goal.cap) for a, b in zip(ours, theirs, strict=True)]


def _memory(series: Series) -> str:
    return ", ".join(f"{megabytes:.0f}" for megabytes in series.memory_mb.values())


def _cell(values: Sequence[float]) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2  # noqa: PLR2004
    return f"{middle:,.{digits}f} [{low:,.{digits}f} to {high:,.{digits}f}]"

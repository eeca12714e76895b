"""The table: medians with their ranges, and goals beside what was reached."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
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

GOALS_HEAD: Final = ("| What | Measure | Goal | Reached | Met |", "|---|---|--:|--:|---|")


def lines(case: Case, series: Sequence[Series]) -> Iterator[str]:
    """Make the table of a case, in Markdown."""
    yield f"### {case.title}"
    yield ""
    yield f"| at a time | who | {' | '.join(_HEADINGS.values())} |"
    yield f"|--:|---|{'--:|' * len(_HEADINGS)}"
    for one in series:
        cells = (_cell(one.values[measure]) for measure in _HEADINGS)
        who = one.subject + (f" ({one.came_back} came back)" if one.came_back else "")
        yield f"| {one.concurrency} | {who} | {' | '.join(cells)} |"
    yield ""
    last = [one for one in series if one.concurrency == series[-1].concurrency]
    told = "; ".join(f"{one.subject} {_list(one.memory_mb.values())}" for one in last)
    yield f"Memory of each process afterwards, MB (PSS): {told}."
    yield ""


def origin(result: dict[str, Any]) -> str:
    """Say where a result comes from, and what it took."""
    machine, size = result["machine"], result["size"]
    return (
        f"Measured at {machine['commit']} on {machine['cpu']}, {machine['cores']} cores:"
        f" {size['rounds']} rounds, runs of {size['seconds']:g} s, {result['seconds']} s in all."
    )


def goal_lines(case: Case, series: Sequence[Series]) -> Iterator[str]:
    """Make the rows of the table of goals."""
    for goal in case.goals:
        if ratios := _ratios(goal, series):
            yield ratio_line(
                f"{case.title}, {_NAMES[goal.measure]}, {goal.concurrency} at a time",
                f"{goal.of} / {_against(goal)}",
                goal.limit,
                ratios,
                at_least=goal.is_at_least,
            )


def told_goals(case: Case, series: Sequence[Series]) -> Iterator[str]:
    """Say for a picture what is to be reached, and what has been."""
    for goal in case.goals:
        if ratios := _ratios(goal, series):
            sign = "≥" if goal.is_at_least else "≤"
            yield (
                f"{_NAMES[goal.measure]} at {goal.concurrency}: {goal.of} / {_against(goal)}"
                f" {sign} {goal.limit:g}, reached {statistics.median(ratios):.2f}"
            )


def ratio_line(
    what: str, measure: str, limit: float, ratios: Sequence[float], *, at_least: bool = False
) -> str:
    """Make a row for ratios, one of each round: their median is what counts."""
    ratio = statistics.median(ratios)
    return goal_line(
        what,
        measure,
        f"{'≥' if at_least else '≤'} {limit:g}",
        f"**{ratio:.2f}** [{min(ratios):.2f} to {max(ratios):.2f}]",
        is_met=ratio >= limit if at_least else ratio <= limit,
    )


def goal_line(what: str, measure: str, goal: str, reached: str, *, is_met: bool) -> str:
    """Make a row of the table of goals."""
    return f"| {what} | {measure} | {goal} | {reached} | {'yes' if is_met else 'no'} |"


def _ratios(goal: Goal, series: Sequence[Series]) -> list[float]:
    by_name = {(one.subject, one.concurrency): one.values[goal.measure] for one in series}
    ours = by_name.get((goal.of, goal.concurrency), [])
    theirs = by_name.get((goal.against, goal.concurrency), [])
    return [a / min(b, goal.cap) for a, b in zip(ours, theirs, strict=True)]


def _against(goal: Goal) -> str:
    return goal.against if goal.cap == math.inf else f"{goal.against}, at most {goal.cap:,.0f}/s"


def _list(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def _cell(values: Sequence[float]) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2  # noqa: PLR2004
    return f"{middle:,.{digits}f} [{low:,.{digits}f} to {high:,.{digits}f}]"

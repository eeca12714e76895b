"""Goals beside calls: what bench-startup, -memory, -growth and -round-trips have found."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from bench.results import kept
from bench.table import goal_line, ratio_line

STARTUP_GOAL: Final = 1.5
MEMORY_GOAL_MB: Final = 80.0
# Flat, but for what one reading differs from the next.
FLATNESS_GOAL: Final = 1.05
GROWTH_GOAL: Final = 3.0
TRANSACTIONS_GOAL: Final = 1


def other_goal_lines(
    read: Callable[[str], dict[str, Any] | None] = kept,
) -> Iterator[str]:
    """Make rows of the table of goals, of what has been measured."""
    for name, rows in _ROWS.items():
        if result := read(name):
            yield from rows(result)


def _startup(result: dict[str, Any]) -> Iterator[str]:
    pairs = zip(result["serving"], result["importing"], strict=True)
    yield ratio_line(
        "Start until the order service serves",
        "services / a process that only imports",
        STARTUP_GOAL,
        [serving / importing for serving, importing in pairs],
    )


def _memory(result: dict[str, Any]) -> Iterator[str]:
    what = f"Memory of a worker process, {result['minutes']:g} minutes under load"
    processes = list(zip(*(megabytes for _, _, megabytes in result["lines"]), strict=True))
    most, grown = max(map(max, processes)), max(map(_grown, processes))
    yield goal_line(
        what,
        "MB (PSS), at most",
        f"≤ {MEMORY_GOAL_MB:g}",
        f"**{most:.0f}**",
        is_met=most <= MEMORY_GOAL_MB,
    )
    yield goal_line(
        what,
        "last third / middle third",
        f"≤ {FLATNESS_GOAL:g}",
        f"**{grown:.2f}**",
        is_met=grown <= FLATNESS_GOAL,
    )


def _grown(megabytes: Sequence[float]) -> float:
    """Say how many times as much there is at the end. The first third is warming up."""
    third = max(1, len(megabytes) // 3)
    return statistics.median(megabytes[-third:]) / statistics.median(megabytes[-2 * third : -third])


def _growth(result: dict[str, Any]) -> Iterator[str]:
    most = max(each["orders"] for each in result["results"])
    for each in result["results"]:
        if each["orders"] == most and each["call"] != "CreateOrder":
            ratios = [large / small for small, large in each["ms"]]
            what = f"{each['call']} with {most:,} orders, p50"
            yield ratio_line(what, f"{most:,} / 1,000 orders", GROWTH_GOAL, ratios)


def _round_trips(result: dict[str, Any]) -> Iterator[str]:
    found = result["calls"]["CreateOrder"]
    trips, transactions = round(found["trips"], 1), round(found["transactions"])
    yield goal_line(
        "CreateOrder on PostgreSQL",
        "transactions",
        f"{TRANSACTIONS_GOAL}, in as few round trips as possible",
        f"**{transactions}**, in {trips:g}",
        is_met=transactions <= TRANSACTIONS_GOAL,
    )


_ROWS: Final[Mapping[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "startup": _startup,
    "memory": _memory,
    "growth": _growth,
    "round-trips": _round_trips,
}

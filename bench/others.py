"""Goals beside calls: what bench-startup, -memory, -growth and -round-trips have found."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).resolve().parents[1] / "build" / "bench"

STARTUP_GOAL: Final = 1.5
MEMORY_GOAL_MB: Final = 80.0
GROWTH_GOAL: Final = 3.0


def keep(name: str, result: dict[str, Any]) -> None:
    """Write a result where the table finds it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def other_goal_lines() -> Iterator[str]:
    """Make rows of the table of goals, of what has been measured."""
    for name, rows in (
        ("startup", _startup),
        ("memory", _memory),
        ("growth", _growth),
        ("round-trips", _round_trips),
    ):
        try:
            result = json.loads((RESULTS / f"{name}.json").read_text())
        except FileNotFoundError:
            continue
        yield from rows(result)


def _startup(result: dict[str, Any]) -> Iterator[str]:
    pairs = zip(result["serving"], result["importing"], strict=True)
    yield _row(
        "Start until the order service serves",
        "services / a process that only imports",
        STARTUP_GOAL,
        [serving / importing for serving, importing in pairs],
    )


def _memory(result: dict[str, Any]) -> Iterator[str]:
    most = [max(line[2]) for line in result["lines"]]
    half = len(most) // 2
    grown = max(most[half:]) - max(most[: half + 1])
    yield (
        f"| Memory of a process under load, {result['minutes']:g} minutes"
        f" | MB (PSS) at most; {grown:+.1f} MB in the second half | ≤ {MEMORY_GOAL_MB:g}"
        f" | **{max(most):.0f}** | {_yes(is_met=max(most) <= MEMORY_GOAL_MB)} |"
    )


def _growth(result: dict[str, Any]) -> Iterator[str]:
    most = max(each["orders"] for each in result["results"])
    for each in result["results"]:
        if each["orders"] == most and each["call"] != "CreateOrder":
            ratios = [large / small for small, large in each["ms"]]
            what = f"{each['call']} with {most:,} orders, p50"
            yield _row(what, "to 1,000 orders", GROWTH_GOAL, ratios)


def _round_trips(result: dict[str, Any]) -> Iterator[str]:
    for call in ("CreateOrder", "PayOrder"):
        found = result["calls"][call]
        yield (
            f"| {call}, round trips to PostgreSQL | in {found['transactions']:.0f}"
            f" transactions | as few as possible | **{found['trips']:.1f}** | |"
        )


def _row(what: str, ratio: str, goal: float, ratios: list[float]) -> str:
    middle = statistics.median(ratios)
    reached = f"**{middle:.2f}** [{min(ratios):.2f} to {max(ratios):.2f}]"
    return f"| {what} | {ratio} | ≤ {goal:g} | {reached} | {_yes(is_met=middle <= goal)} |"


def _yes(*, is_met: bool) -> str:
    return "yes" if is_met else "no"

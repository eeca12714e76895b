"""The table says what was reached, and whether that is what was to be reached."""

import pytest

from bench.cases import Case, Goal
from bench.run import Series
from bench.table import GOALS_HEAD, goal_lines, lines, told_goals
from bench.workloads import Nothing

RATE = "calls_per_second"


def a_series(subject: str, measure: str, *values: float, concurrency: int = 16) -> Series:
    return Series(subject, concurrency, calls=100, values={measure: list(values)})


def met(goal: Goal, *series: Series) -> list[tuple[str, str]]:
    """What a goal's row says was reached, and whether that will do."""
    case = Case("a-case", "A case", Nothing(), ("ours", "theirs"), [goal])
    rows = [line.strip("| ").split(" | ") for line in goal_lines(case, series)]
    return [(reached, is_met) for *_, reached, is_met in rows]


class TestAGoal:
    def test_is_met_by_the_median_of_the_rounds(self) -> None:
        goal = Goal("ours", "theirs", 1.35)
        ours = a_series("ours", "cpu_us", 100, 130, 400)
        theirs = a_series("theirs", "cpu_us", 100, 100, 100)
        assert met(goal, ours, theirs) == [("**1.30** [1.00 to 4.00]", "yes")]

    def test_compares_within_a_round(self) -> None:
        goal = Goal("ours", "theirs", 1.35)
        ours = a_series("ours", "cpu_us", 100, 1000)
        theirs = a_series("theirs", "cpu_us", 50, 500)
        assert met(goal, ours, theirs) == [("**2.00** [2.00 to 2.00]", "no")]

    def test_of_a_rate_is_met_by_more(self) -> None:
        goal = Goal("ours", "theirs", 0.6, RATE)
        theirs = a_series("theirs", RATE, 1000)
        assert met(goal, a_series("ours", RATE, 590), theirs)[0][1] == "no"
        assert met(goal, a_series("ours", RATE, 610), theirs)[0][1] == "yes"

    @pytest.mark.parametrize(
        ("theirs", "reached"), [(500, "1.60"), (1000, "0.80"), (1280, "0.62"), (4000, "0.62")]
    )
    def test_counts_no_more_of_the_other_than_its_cap(self, theirs: float, reached: str) -> None:
        goal = Goal("ours", "theirs", 0.85, RATE, cap=1280)
        [(told, _)] = met(goal, a_series("ours", RATE, 800), a_series("theirs", RATE, theirs))
        assert told.startswith(f"**{reached}**")

    def test_has_no_row_where_nobody_has_measured(self) -> None:
        goal = Goal("ours", "theirs", 1.35, concurrency=32)
        series = [a_series(name, "cpu_us", 100) for name in ("ours", "theirs")]
        assert met(goal, *series) == []

    def test_names_its_cap(self) -> None:
        goal = Goal("ours", "theirs", 0.85, RATE, cap=1280)
        case = Case("a-case", "A case", Nothing(), ("ours", "theirs"), [goal])
        series = [a_series(name, RATE, 640) for name in ("ours", "theirs")]
        assert "ours / theirs, at most 1,280/s | ≥ 0.85" in "".join(goal_lines(case, series))
        assert list(told_goals(case, series)) == [
            "rate at 16: ours / theirs, at most 1,280/s ≥ 0.85, reached 1.00"
        ]

    def test_has_a_cell_for_each_heading(self) -> None:
        case = Case("a-case", "A case", Nothing(), ("a", "b"), [Goal("a", "b", 1)])
        [row] = goal_lines(case, [a_series(name, "cpu_us", 1) for name in ("a", "b")])
        assert row.count("|") == GOALS_HEAD[0].count("|") == GOALS_HEAD[1].count("|")


class TestTheTableOfACase:
    def test_has_medians_ranges_refusals_and_the_memory_of_each_process(self) -> None:
        measures = ("cpu_us", "postgres_us", RATE, "p50_ms", "p99_ms")
        series = Series(
            "ours",
            16,
            calls=100,
            values={name: [1.0, 20.0, 3000.0] for name in measures},
            came_back=7,
            memory_mb={"41": 60.4, "42": 71.6},
        )
        case = Case("a-case", "A case", Nothing(), ("ours",))
        table = list(lines(case, [series]))
        [row] = [line for line in table if line.startswith("| 16")]
        assert row.startswith("| 16 | ours (7 came back) | 20.0 [1.0 to 3,000.0] |")
        assert "Memory of each process afterwards, MB (PSS): ours 60, 72." in table

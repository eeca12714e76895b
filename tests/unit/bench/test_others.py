"""What is measured beside the calls stands in the table of goals, as soon as it is measured."""

from typing import Any

import pytest

from bench.others import other_goal_lines


def rows(**results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What each row says was measured, what was reached, and whether that will do."""
    told = {name.replace("_", "-"): result for name, result in results.items()}
    cells = [line.strip("| ").split(" | ") for line in other_goal_lines(told.get)]
    return [(f"{what}: {measure}", reached, is_met) for what, measure, _, reached, is_met in cells]


def memory(*megabytes: float) -> dict[str, Any]:
    """A run with these readings of one process beside one that stays the same."""
    lines = [[minute, 100, [60.0, each]] for minute, each in enumerate(megabytes)]
    return {"minutes": 10, "lines": lines}


def round_trips(trips: float, transactions: float) -> dict[str, Any]:
    return {"calls": {"CreateOrder": {"trips": trips, "transactions": transactions}}}


def test_nothing_measured_is_nothing_told() -> None:
    assert rows() == []


def test_a_start_is_compared_with_imports_of_the_same_round() -> None:
    [(_, reached, is_met)] = rows(startup={"serving": [3.0, 1.2], "importing": [2.0, 1.0]})
    assert (reached, is_met) == ("**1.35** [1.20 to 1.50]", "yes")


class TestMemory:
    def test_is_that_of_the_greatest_process(self) -> None:
        [(_, most, is_met), _] = rows(memory=memory(70, 75, 81, 75, 75, 75))
        assert (most, is_met) == ("**81**", "no")

    @pytest.mark.parametrize(
        ("megabytes", "is_met"),
        [
            # Warming up is no growth.
            ((20, 40, 70, 70, 70, 70), "yes"),
            ((70, 70, 70, 70, 73, 73), "yes"),
            ((50, 55, 60, 65, 70, 75), "no"),
        ],
    )
    def test_is_flat_once_it_is_warm(self, megabytes: tuple[float, ...], is_met: str) -> None:
        [_, (_, _, flat)] = rows(memory=memory(*megabytes))
        assert flat == is_met

    def test_of_a_short_run_is_told_too(self) -> None:
        assert len(rows(memory=memory(70, 70))) == 2


def test_growth_is_told_of_reading_the_most_orders() -> None:
    results = [
        {"orders": 1_000, "call": "GetOrder", "ms": [[1.0, 1.0]]},
        {"orders": 10_000_000, "call": "GetOrder", "ms": [[1.0, 2.0], [1.0, 2.2], [1.0, 9.0]]},
        {"orders": 10_000_000, "call": "first page", "ms": [[1.0, 3.5]]},
        {"orders": 10_000_000, "call": "CreateOrder", "ms": [[1.0, 1.0]]},
    ]
    assert [(reached, is_met) for _, reached, is_met in rows(growth={"results": results})] == [
        ("**2.20** [2.00 to 9.00]", "yes"),
        ("**3.50** [3.50 to 3.50]", "no"),
    ]


@pytest.mark.parametrize(
    ("trips", "transactions", "reached", "is_met"),
    [
        (1.0, 1.0, "**1**, in 1", "yes"),
        (1.04, 1.04, "**1**, in 1", "yes"),
        (7.0, 2, "**2**, in 7", "no"),
    ],
)
def test_an_order_is_placed_in_one_transaction(
    trips: float, transactions: float, reached: str, is_met: str
) -> None:
    told = rows(round_trips=round_trips(trips, transactions))
    assert [each[1:] for each in told] == [(reached, is_met)]

"""A guard taken away: the shortest way to the violation that follows, in any of the scenarios."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tests.faults.model.checker import Result, explore
from tests.faults.model.guards import Guard
from tests.faults.model.scenario import Scenario
from tests.faults.model.scenarios import SMALL


@dataclass(frozen=True)
class Found:
    """A violation, and in which scenario."""

    scenario: Scenario
    result: Result


def shortest_without(
    guards: Iterable[Guard], *, held_without: Iterable[Guard] = ()
) -> Found | None:
    """Return the violation of fewest steps, or None.

    Only scenarios count in which nothing goes wrong without the guards of `held_without`: there,
    the others are what makes the difference.
    """
    found = []
    for scenario in SMALL:
        result = explore(replace(scenario, without=frozenset(guards)))
        if result.violation and _holds_without(scenario, held_without):
            found.append(Found(scenario, result))
    return min(found, key=lambda one: len(one.result.trace), default=None)


def _holds_without(scenario: Scenario, guards: Iterable[Guard]) -> bool:
    without = frozenset(guards)
    return not without or not explore(replace(scenario, without=without)).violation

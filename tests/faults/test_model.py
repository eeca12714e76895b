"""The money protocol, in every order in which its steps can come: see `tests.faults.model`."""

from typing import Final

import pytest

from tests.faults.figures import Figures
from tests.faults.model.checker import explore
from tests.faults.model.guards import STANDS_BEHIND, Guard
from tests.faults.model.removal import shortest_without
from tests.faults.model.scenario import Scenario
from tests.faults.model.scenarios import LARGE, SMALL

NEEDED_ALONE: Final = [guard for guard in Guard if guard not in STANDS_BEHIND]


def named(thing: object) -> str:
    """Name a scenario or a guard in a test's id."""
    if isinstance(thing, Scenario):
        return thing.name.replace(" ", "-")
    return thing.name.lower() if isinstance(thing, Guard) else str(thing)


@pytest.mark.parametrize("scenario", [*SMALL, *LARGE], ids=named)
def test_no_order_of_steps_takes_money_twice_or_loses_it(
    scenario: Scenario, figures: Figures
) -> None:
    result = explore(scenario)

    assert not result.violation, result.told()
    assert not result.is_settling_endless
    figures.add("model, states", result.states)
    figures.add("model, edges", result.edges)


@pytest.mark.parametrize("guard", NEEDED_ALONE, ids=named)
def test_goes_wrong_without(guard: Guard, figures: Figures) -> None:
    found = shortest_without({guard})

    assert found, f"nothing goes wrong without: {guard.value}"
    figures.add("model, guards removed and caught")


@pytest.mark.parametrize("guard", list(STANDS_BEHIND), ids=named)
def test_goes_wrong_without_it_and_the_one_behind(guard: Guard, figures: Figures) -> None:
    behind = STANDS_BEHIND[guard]

    alone = shortest_without({guard})
    assert not alone, f"needed alone: {alone.result.told()}"
    assert shortest_without({guard, *behind}, held_without=behind)
    figures.add("model, guards removed and caught")


def test_tells_the_steps_in_words() -> None:
    found = shortest_without({Guard.SEAL_LOCK})

    assert found
    assert found.result.violation == "I3: cancelled and charged"
    assert found.result.trace == (
        "CancelOrder records its intent",
        "payment 2 arrives and finds neither seal nor payment",
        "SealOrder finds no payment",
        "payment 2 is inserted as pending",
        "the gateway executes payment 2",
        "the order is sealed: ok, cancelled, 0 given back",
    )

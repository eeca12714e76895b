"""The configurations that are explored: each an order, and those who want something of it."""

from typing import Final

from tests.faults.model.scenario import Scenario

# Small enough to be explored once more for every guard that is taken away.
SMALL: Final = (
    Scenario("a charge under one key, twice", charges=("a", "a"), cancel=True),
    Scenario("a second key after a decline", charges=("a", "b"), cancel=True),
    Scenario("a charge beside a direct payment", charges=("a", "a"), direct=1, cancel=True),
    Scenario("a charge beside two direct payments", charges=("a",), direct=2, cancel=True),
    Scenario("refunds in parts", is_paid=True, refunds=(1, 1, 0), fulfil=True),
    Scenario("refunds of more than is left", is_paid=True, refunds=(2, 1)),
    Scenario("charges without an answer", charges=("a",), direct=1, cancel=True, ages=True),
    Scenario("refunds without an answer", is_paid=True, refunds=(1, 0), fulfil=True, ages=True),
    Scenario(
        "an operator who errs about a charge", charges=("a",), cancel=True, ages=True, errs=True
    ),
    Scenario(
        "an operator who errs about a refund", is_paid=True, refunds=(1,), ages=True, errs=True
    ),
    Scenario(
        "replies of charges and their retention",
        charges=("a", "b"),
        cancel=True,
        repeats=True,
        forgets=True,
    ),
    Scenario(
        "replies of refunds and their retention",
        is_paid=True,
        refunds=(1, 0),
        fulfil=True,
        repeats=True,
        forgets=True,
    ),
)

# More of everything at once.
LARGE: Final = (
    Scenario(
        "from the first charge to the last refund",
        charges=("a", "a", "b"),
        direct=1,
        cancel=True,
        refunds=(1, 1, 0),
        fulfil=True,
    ),
    Scenario(
        "two keys and a direct payment without an answer",
        charges=("a", "b"),
        direct=1,
        cancel=True,
        ages=True,
    ),
    Scenario(
        "a charge and its refunds without an answer",
        charges=("a",),
        cancel=True,
        refunds=(1, 0),
        fulfil=True,
        ages=True,
    ),
    Scenario(
        "charges and a refund, with replies and their retention",
        charges=("a", "b"),
        cancel=True,
        refunds=(1,),
        fulfil=True,
        repeats=True,
        forgets=True,
    ),
)

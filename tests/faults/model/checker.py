"""Breadth first through every state that can be reached: the shortest violation, or none."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.model.gateway import gateway_steps
from tests.faults.model.laws import (
    LAWS,
    LAWS_OF_RECORDS,
    changes_have_entries,
    ended_operations_have_replies,
    is_settled,
)
from tests.faults.model.orders import order_steps
from tests.faults.model.outcomes import feed_steps, outcome_steps
from tests.faults.model.payments import payment_steps
from tests.faults.model.scenario import CALLER, WORKER, Scenario, Step
from tests.faults.model.state import State

_PARTS = (order_steps, payment_steps, gateway_steps, outcome_steps, feed_steps)


@dataclass(frozen=True)
class Result:
    """How far it went, and the steps that lead to the violation, if there is one."""

    states: int
    edges: int
    violation: str = ""
    trace: tuple[str, ...] = ()
    is_settling_endless: bool = False

    def told(self) -> str:
        """The violation and its steps, for people."""
        lines = [f"{number:>3}. {says}" for number, says in enumerate(self.trace, start=1)]
        return "\n".join([self.violation, *lines])


def explore(scenario: Scenario) -> Result:
    """Visit every state once; stop at the first that breaks a law."""
    return _Search(scenario).run()


class _Search:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._laws = LAWS_OF_RECORDS if scenario.errs else LAWS
        start = scenario.start
        self._states = [start]
        self._places = {start: 0}
        # Of each state, the place of the one it was reached from, and by which step.
        self._parents = [-1]
        self._says = [""]
        self._edges = 0
        # Steps that workers take, from and to: they must come to an end.
        self._worked_from = array("i")
        self._worked_to = array("i")

    def run(self) -> Result:
        """Go on until nothing is new."""
        place = 0
        while place < len(self._states):
            state = self._states[place]
            if problem := self._visit(place, state):
                return problem
            place += 1
        return Result(
            len(self._states), self._edges, is_settling_endless=not self._workers_come_to_an_end()
        )

    def _visit(self, place: int, state: State) -> Result | None:
        if wrong := self._breaks(state):
            return self._result(wrong, place)
        does_worker_act = does_anybody_act = False
        for step in self._steps(state):
            if step.state == state:
                continue
            self._edges += 1
            if wrong := changes_have_entries(state, step):
                return self._result(wrong, place, step.says)
            does_worker_act |= step.by == WORKER
            does_anybody_act |= step.by != CALLER
            target = self._reach(place, step)
            if step.by == WORKER:
                self._worked_from.append(place)
                self._worked_to.append(target)
        if self._scenario.errs or does_worker_act:
            return None
        wrong = is_settled(self._scenario, state, by_itself=not does_anybody_act)
        return self._result(wrong, place) if wrong else None

    def _steps(self, state: State) -> Iterator[Step]:
        for part in _PARTS:
            yield from part(self._scenario, state)

    def _reach(self, place: int, step: Step) -> int:
        known = self._places.setdefault(step.state, len(self._states))
        if known == len(self._states):
            self._states.append(step.state)
            self._parents.append(place)
            self._says.append(step.says)
        return known

    def _breaks(self, state: State) -> str:
        for law in self._laws:
            if wrong := law(state):
                return wrong
        return ended_operations_have_replies(self._scenario, state)

    def _result(self, wrong: str, place: int, last: str = "") -> Result:
        says = [last] if last else []
        while place > 0:
            says.append(self._says[place])
            place = self._parents[place]
        return Result(len(self._states), self._edges, wrong, tuple(reversed(says)))

    def _workers_come_to_an_end(self) -> bool:
        """Whether no chain of workers' steps leads back to where it was: then each ends settled."""
        incoming = array("i", bytes(4 * len(self._states)))
        outgoing: dict[int, list[int]] = {}
        for source, target in zip(self._worked_from, self._worked_to, strict=True):
            incoming[target] += 1
            outgoing.setdefault(source, []).append(target)
        free = [place for place, count in enumerate(incoming) if not count]
        freed = 0
        while free:
            freed += 1
            for target in outgoing.get(free.pop(), ()):
                incoming[target] -= 1
                if not incoming[target]:
                    free.append(target)
        return freed == len(self._states)

"""python -m tests.faults.model: every scenario and its size, every guard and what it prevents."""

import sys

from tests.faults.model.checker import explore
from tests.faults.model.guards import STANDS_BEHIND, Guard
from tests.faults.model.removal import shortest_without
from tests.faults.model.scenarios import LARGE, SMALL


def main() -> None:
    """Tell it all."""
    _tell("states   edges")
    for scenario in (*SMALL, *LARGE):
        result = explore(scenario)
        _tell(f"{result.states:>6,} {result.edges:>7,}  {scenario.name}")
        if result.violation:
            _tell(result.told())
    for guard in Guard:
        behind = STANDS_BEHIND.get(guard, ())
        found = shortest_without({guard, *behind}, held_without=behind)
        _tell(f"\nWithout: {guard.value}")
        for other in behind:
            _tell(f"    and: {other.value}")
        _tell(f"({found.scenario.name})\n{found.result.told()}" if found else "nothing goes wrong")


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()

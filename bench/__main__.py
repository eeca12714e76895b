"""make bench: what calls cost, beside the floor, an empty RPC and a peer, in one table.

Every case is measured in turns: A B A B …, each subject a real process with a real database. What
has been measured is kept in build/bench, one file a case, and not measured again unless asked to.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.cases import CASES, GOAL_CONCURRENCY, Case
from bench.others import other_goal_lines
from bench.results import RESULTS
from bench.run import Size, save, saved, timed_measure
from bench.subjects import Stage
from bench.table import GOALS_HEAD, goal_lines, lines, origin

_QUICK: Final = Size(rounds=2, seconds=0.3, concurrencies=(GOAL_CONCURRENCY,))
_QUICK_CASES: Final = ("empty", "create-order", "get-order", "pay-order")


def main() -> int:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", help="only these; default: all", metavar="CASE")
    parser.add_argument("--quick", action="store_true", help="a glance: under two minutes")
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw each case into it")
    parser.add_argument("--rounds", type=int, default=Size.rounds)
    parser.add_argument(
        "--at-a-time",
        type=int,
        nargs="+",
        default=(),
        metavar="N",
        help="default: as each case says",
    )
    parser.add_argument("--seconds", type=float, default=Size.seconds, help="of a run")
    options = parser.parse_args()
    unknown = set(options.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}; {', '.join(c.name for c in CASES)}")
    if options.quick:
        _glance()
        return 0
    chosen = [case for case in CASES if case.name in options.cases or not options.cases]
    missing = [case for case in chosen if options.again or saved(case) is None]
    size = Size(rounds=options.rounds, seconds=options.seconds, concurrencies=options.at_a_time)
    if missing:
        with Stage() as stage:
            for case in missing:
                series, seconds = timed_measure(case, size, stage, _say)
                save(case, series, size, seconds)
    print(_text(chosen))
    print(f"\nAll cases that have been measured took {_minutes():.0f} minutes.")
    (RESULTS / "table.md").write_text(_text(CASES) + "\n")
    if options.plots:
        # Whoever only glances does not wait for it to be imported.
        from bench.plots import draw  # noqa: PLC0415

        for case in chosen:
            if result := saved(case):
                draw(case, result, options.plots)
    return 0


def _glance() -> None:
    goals = [*GOALS_HEAD]
    with Stage() as stage:
        for case in CASES:
            if case.name in _QUICK_CASES:
                series, _ = timed_measure(case, _QUICK, stage, _say)
                print("\n".join(lines(case, series)), flush=True)
                goals += goal_lines(case, series)
    print("\n".join(goals))


def _text(cases: Sequence[Case]) -> str:
    """Make the tables of what has been measured, and the one of all goals."""
    tables: list[str] = []
    goals = [*GOALS_HEAD]
    for case in cases:
        if result := saved(case):
            tables += [*lines(case, result["series"]), origin(result), ""]
            goals += goal_lines(case, result["series"])
    return "\n".join([*tables, *goals, *other_goal_lines()])


def _minutes() -> float:
    seconds: float = sum(result["seconds"] for case in CASES if (result := saved(case)))
    return seconds / 60


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

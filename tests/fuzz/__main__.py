"""make fuzz: send both services what nobody should, for minutes.

Each round has a seed of its own and a pair of services that has never been called. It ends with
the first answer that is not clean, and tells how to repeat the round.
"""

import argparse
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tests.fuzz.attack import OTHERS, PEER, attacked
from tests.fuzz.fuzzer import NotClean

_ROUND_SECONDS: Final = 60.0


def main() -> int:
    """Fuzz, and print what was answered. Returns the exit code."""
    options = _options()
    ends_at = time.monotonic() + options.minutes * 60
    outcomes: Counter[str] = Counter()
    rounds = connections = 0
    while rounds == 0 or time.monotonic() < ends_at:
        seed = options.seed if options.seed is not None else secrets.randbelow(1_000_000_000)
        seconds = min(_ROUND_SECONDS, ends_at - time.monotonic())
        print(f"round {rounds + 1}, seed {seed}, {seconds:.0f} s", flush=True)
        with (
            tempfile.TemporaryDirectory(prefix="checkout-") as folder,
            attacked(Path(folder), seed=seed) as attack,
        ):
            problems = []
            try:
                attack.calls(seconds * 0.5, roles=OTHERS)
                if not (verdict := attack.verify()).startswith("0 violations in "):
                    problems.append(verdict)
                attack.calls(seconds * 0.25, roles=PEER)
                attack.frames(seconds * 0.25)
                problems += attack.problems()
            except NotClean as unclean:
                problems.append(str(unclean))
        outcomes += attack.outcomes
        connections += attack.connections
        rounds += 1
        if problems:
            print(*problems, sep="\n")
            print(f"repeat with: make fuzz MINUTES={seconds / 60:.2f} SEED={seed}")
            return 1
    for outcome, number in outcomes.most_common():
        print(f"{number:>10}  {outcome}")
    print(f"{connections:>10}  connections with frames that are no call")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--seed", type=int, help="of every round; default: another one each")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

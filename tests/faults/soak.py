"""make soak: hours of a bad day, in minutes, on PostgreSQL.

While many clients go through whole checkouts, both services are killed at random, and PostgreSQL
is broken off and started again every one to three seconds. In the end everything has to settle and
to fit together, as after every attack. It ends when the minutes are over, or before if it has then
done all that `--checkouts` and `--kills` ask for; exit code 1 if anything is wrong, or missing.
"""

import argparse
import faulthandler
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.aftermath import Aftermath, report_of
from tests.faults.cluster import postgres_urls, running_cluster
from tests.faults.figures import ROOT, Figures, lines, missing, write_report
from tests.faults.forked import loaded_zygotes
from tests.faults.money_check import double_charges, lost_payments
from tests.faults.outages import Outages
from tests.faults.storm import SETTINGS, Storm, sit_out
from tests.servers.postgres import PostgresServer, RestartablePostgres

REPORT: Final = ROOT / "build" / "soak.json"
PAUSE_SECONDS: Final = (0.3, 5.7)
_TOLD_SECONDS: Final = 60.0
# Shoppers have this long to finish, and all the rest to settle and to be compared.
_AFTERWARDS_SECONDS_MAX: Final = 300.0


def main() -> int:
    """Run it and tell what came of it. Returns the exit code."""
    options = _options()
    began = time.time()
    print(f"seed {options.seed}, at most {options.minutes:g} minutes", flush=True)
    # Whatever hangs, nobody waits for it: it tells where it hangs, and all processes end.
    faulthandler.dump_traceback_later(options.minutes * 60 + _AFTERWARDS_SECONDS_MAX, exit=True)
    figures = Figures()
    with ExitStack() as stack:
        server = RestartablePostgres()
        stack.callback(server.stop)
        storm, outages = _weather(stack, server, options)
        aftermath = sit_out(storm, figures, outages=outages, meanwhile=_teller(storm, outages))
    faulthandler.cancel_dump_traceback_later()
    _count(figures, storm, aftermath)
    wanted = {"checkouts": options.checkouts, "kills, random": options.kills}
    owed = missing(figures, wanted)
    bound = 3 / max(1, storm.checkouts)
    for line in lines(figures):
        print(line)
    print(f"{bound:>10.2e}  of checkouts may go wrong, at most, if none of these did (95 %: 3/n)")
    write_report(
        figures,
        began=began,
        command=_command(options),
        path=REPORT,
        seed=options.seed,
        upper_bound_95_percent=bound,
        problems=len(aftermath.problems),
    )
    if aftermath.problems:
        print(report_of(aftermath.problems))
    for problem in owed:
        print(f"too little: {problem}")
    print(f"repeat with: {_command(options)}")
    return 1 if aftermath.problems or owed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=25, help="how long at most (25)")
    parser.add_argument("--checkouts", type=int, default=0, help="how many there have to be")
    parser.add_argument("--kills", type=int, default=0, help="how many there have to be")
    parser.add_argument("--shoppers", type=int, default=32, help="how many at a time (32)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000_000))
    return parser.parse_args()


def _command(options: argparse.Namespace) -> str:
    named = {
        "--minutes": f"{options.minutes:g}",
        "--checkouts": options.checkouts,
        "--kills": options.kills,
        "--shoppers": options.shoppers,
        "--seed": options.seed,
    }
    given = " ".join(f"{name} {value}" for name, value in named.items() if value)
    return f"python -m tests.faults.soak {given}"


def _weather(
    stack: ExitStack, server: RestartablePostgres, options: argparse.Namespace
) -> tuple[Storm, Outages]:
    random = Random(options.seed)  # noqa: S311 - it must be repeatable
    urls = stack.enter_context(postgres_urls(PostgresServer(server.url, "soak")))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="checkout-soak-")))
    zygotes = stack.enter_context(loaded_zygotes())
    cluster = stack.enter_context(running_cluster(zygotes, folder, urls, variables=SETTINGS))
    end_at = time.monotonic() + options.minutes * 60
    storm = Storm(
        cluster,
        random=random,
        shoppers=options.shoppers,
        pause_seconds=PAUSE_SECONDS,
        goes_on=lambda _kills: time.monotonic() < end_at and not _is_enough(storm, options),
    )
    return storm, Outages(server, random=Random(random.random()))  # noqa: S311


def _is_enough(storm: Storm, options: argparse.Namespace) -> bool:
    """Say whether something was asked for, and all of it is done; or something is wrong."""
    asked = options.checkouts or options.kills
    is_done = storm.checkouts >= options.checkouts and len(storm.kills) >= options.kills
    return bool(storm.problems) or bool(asked and is_done)


def _teller(storm: Storm, outages: Outages) -> Callable[[], None]:
    """Make what tells now and then how far it has come."""
    began = told_at = time.monotonic()

    def tell() -> None:
        nonlocal told_at
        if time.monotonic() - told_at < _TOLD_SECONDS:
            return
        told_at = time.monotonic()
        print(
            f"{(told_at - began) / 60:5.1f} min: {storm.checkouts:,} checkouts,"
            f" {len(storm.kills):,} kills, {outages.restarts:,} restarts of PostgreSQL",
            flush=True,
        )

    return tell


def _count(figures: Figures, storm: Storm, aftermath: Aftermath) -> None:
    for module, count in Counter(kill.module for kill in storm.kills).items():
        figures.add(f"kills of the {module.replace('_', ' ')}", count)
    figures.add("double charges", double_charges(aftermath.truth))
    figures.add("lost payments", lost_payments(storm.history.calls, aftermath.truth))
    figures.add("stuck", len(aftermath.stuck))
    figures.add("problems of any kind", len(aftermath.problems))


if __name__ == "__main__":
    sys.exit(main())

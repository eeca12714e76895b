"""make proxy-demo: Envoy before two processes of each service, while one of each is killed."""

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Final

from deploy.fleet import CHECKOUT_CALLS, Fleet, running
from deploy.processes import NotServing
from deploy.proxy import CLUSTERS
from deploy.screen import Screen, wants_colour
from deploy.shoppers import SHOPPERS, Shoppers, Tally

# First nothing happens, to see who gets the calls.
_QUIET_SECONDS: Final = 5.0
# When, in seconds of shopping after that, what happens to whom.
_KILLS: Final = ((2.0, "order 2"), (9.0, "payment 2"))
_AWAY_SECONDS: Final = 1.5
_SHOPPING_SECONDS: Final = 18.0


@dataclass
class Balance:
    """How many calls of checkouts each process answered, life by life."""

    rows: list[tuple[str, str, int]] = field(default_factory=list)

    def read(self, fleet: Fleet, name: str, when: str) -> None:
        """Add what a process tells now."""
        self.rows.append((name, when, fleet.calls(name)))


def run(screen: Screen) -> int:
    """Start it all, shop, kill, count. Returns the exit code."""
    began = time.monotonic()
    try:
        with running() as fleet:
            screen.line(
                screen.styled(
                    "Checkout: two processes of each service on PostgreSQL, behind Envoy", "bold"
                )
                + f", started in {time.monotonic() - began:.1f} s"
            )
            screen.line()
            screen.facts((name, process.address) for name, process in fleet.processes.items())
            return _demonstrate(fleet, screen)
    except NotServing as error:
        screen.heading(screen.styled(f"✗ {error}", "red"))
        screen.line(error.log)
        return 1


def _demonstrate(fleet: Fleet, screen: Screen) -> int:
    screen.heading(f"{SHOPPERS} shoppers create, pay and read orders, all over one connection")
    balance = Balance()
    shoppers = Shoppers(fleet.proxy.orders)
    stored_before = fleet.stored_bytes()
    with shoppers.shopping():
        time.sleep(_QUIET_SECONDS)
    # Read while nobody calls: the numbers are of one moment.
    for name in fleet.processes:
        balance.read(fleet, name, "before the first kill")
    with shoppers.shopping():
        _kill_some(fleet, screen, balance)
    for name in fleet.processes:
        balance.read(fleet, name, "since it started, at the end")
    stored = fleet.stored_bytes() - stored_before
    verdict = fleet.verify()
    _tell(fleet, screen, balance, shoppers.tally, stored)
    screen.heading("python -m order_service verify")
    screen.line(f"    {verdict}")
    is_well = all_is_well(shoppers.tally, verdict)
    colour, sign = ("green", "✓") if is_well else ("red", "✗")
    outcome = f"{shoppers.tally.made} checkouts, {len(shoppers.tally.failed)} failed"
    screen.heading(screen.styled(f"{sign} {outcome}", colour))
    return 0 if is_well else 1


def all_is_well(tally: Tally, verdict: str) -> bool:
    """Say whether every checkout was made, each with one order, and every guarantee held."""
    # One order more than checkouts is one that was placed twice, which verify takes for two.
    expected = f"0 violations in {tally.made} orders"
    return tally.made > 0 and not tally.failed and verdict.splitlines()[-1:] == [expected]


def _kill_some(fleet: Fleet, screen: Screen, balance: Balance) -> None:
    began = time.monotonic()
    for after_seconds, name in _KILLS:
        _sleep_until(began + after_seconds)
        balance.read(fleet, name, "until it was killed")
        process = fleet.processes[name]
        pid = process.pid
        process.kill()
        screen.line(f"    {time.monotonic() - began:4.1f} s  kill -9 {pid}  ({name})")
        _sleep_until(began + after_seconds + _AWAY_SECONDS)
        process.start()
        screen.line(f"    {time.monotonic() - began:4.1f} s  {name} is started again")
    _sleep_until(began + _SHOPPING_SECONDS)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _tell(fleet: Fleet, screen: Screen, balance: Balance, tally: Tally, stored: int) -> None:
    calls = "; ".join(", ".join(methods) for methods in CHECKOUT_CALLS.values())
    screen.heading(f"Calls that each process answered, by its own metrics ({calls})")
    screen.line()
    screen.facts((f"{name}, {when}", str(count)) for name, when, count in balance.rows)
    screen.heading("What came of it")
    screen.line()
    counts = [
        ("checkouts made", str(tally.made)),
        ("checkouts failed", str(len(tally.failed))),
        ("the slowest took", f"{tally.slowest_seconds:.1f} s"),
        ("carried on by Envoy alone", str(tally.helped_by_envoy)),
        ("carried on by their clients", str(tally.helped_by_client)),
    ]
    for cluster in CLUSTERS:
        again = fleet.proxy.count(cluster, "upstream_rq_retry")
        counts.append((f"calls Envoy sent again, {cluster}", str(again)))
    reasons = ", ".join(f"{count} {reason}" for reason, count in tally.refusals.most_common())
    counts.append(("calls clients sent again", reasons or "0"))
    if tally.made:
        counts.append(("bytes in PostgreSQL for each", f"{stored / tally.made:,.0f}"))
    screen.facts(counts)
    for problem in tally.failed[:10]:
        screen.line(screen.styled(f"    ✗ {problem}", "red"))


def main() -> int:
    """Run the demo on standard output."""
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return run(Screen(sys.stdout, colour=wants_colour(sys.stdout, os.environ)))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())

"""Races: calls that are released at the same instant, and what must hold whoever wins."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, Final

from tests.checkout import Checkout
from tests.faults.background import settle_everything
from tests.faults.facts import Facts, contradictions, facts_of
from tests.faults.figures import Figures
from tests.faults.size import sized
from tests.system.simultaneously import Outcome, final_outcome, is_transient, outcome_of

RACERS_MAX: Final = 8

# How far apart at most they start: not at all, about as long as a transaction, as long as a call.
_HEAD_STARTS_SECONDS: Final = (0.0, 0.0, 0.001, 0.004, 0.012)
# Threads take turns this often: far more ways to interleave than at the usual 5 ms.
_TURN_SECONDS: Final = 0.001
# From so many races on, each way to end must have been seen.
_ENOUGH: Final = 60
# So many times as many races are held for that.
_PATIENCE: Final = 6
# Longer than anything that was left behind waits for its next try.
_LATER: Final = timedelta(seconds=30)

# A call, or a piece of background work.
Racer = Callable[[], Any]


@dataclass(frozen=True)
class Finish:
    """How a race ended: who won, and what must be true of its order afterwards."""

    order_id: str
    won: str
    status: str
    events: Sequence[str]
    charges: Sequence[int] = ()
    refunds: Sequence[int] = ()


class Racecourse:
    """A running checkout on which calls race each other, thousands of times."""

    def __init__(
        self, checkout: Checkout, *, database: str, random: Random, figures: Figures
    ) -> None:
        self.checkout = checkout
        self.random = random
        self._database = database
        self._figures = figures
        self._pool = ThreadPoolExecutor(RACERS_MAX, thread_name_prefix="racer")

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown()

    def released(self, *racers: Racer) -> list[Any]:
        """Make the calls at the same instant, or one a little later, and return what came."""
        starting = threading.Barrier(len(racers))
        head_start = self.random.choice(_HEAD_STARTS_SECONDS)
        waits = [head_start * self.random.uniform(0.5, 1.0) for _ in racers]
        waits[self.random.randrange(len(racers))] = 0.0

        def run(number: int) -> Any:
            starting.wait()
            if waits[number]:
                time.sleep(waits[number])
            return outcome_of(racers[number])

        # Neither the first of the arguments nor the first of the threads has an advantage.
        numbers = self.random.sample(range(len(racers)), len(racers))
        outcomes = dict(zip(numbers, self._pool.map(run, numbers), strict=True))
        return [outcomes[number] for number in range(len(racers))]

    def settled(self, racers: Sequence[Racer], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Send again what was not answered for good, one after the other."""
        return [
            final_outcome(racer) if is_transient(outcome) else outcome
            for racer, outcome in zip(racers, outcomes, strict=True)
        ]

    def run(
        self, name: str, race: Callable[[], Finish], *, rounds: int, ways: Sequence[str]
    ) -> None:
        """Hold so many races, then compare their orders with both databases and the ledger.

        `ways` are the winners that must be seen: with always the same one it is no race.
        """
        finishes: list[Finish] = []
        with _short_turns():
            while len(finishes) < sized(rounds) or self._may_see_more(finishes, rounds, ways):
                finishes.append(race())
        self._figures.add(f"races, {self._database}", len(finishes))
        won = Counter(finish.won for finish in finishes)
        for way, count in won.items():
            self._figures.add(f"races won, {name}: {way}", count)
        settle_everything(self.checkout)
        self.checkout.clock.move(_LATER)
        settle_everything(self.checkout)
        facts = facts_of(self.checkout, [finish.order_id for finish in finishes])
        for finish in finishes:
            _compare(finish, facts[finish.order_id])
        assert won.keys() <= set(ways)
        assert won.keys() == set(ways) or sized(rounds) < _ENOUGH, f"always the same winner: {won}"

    @staticmethod
    def _may_see_more(finishes: Sequence[Finish], rounds: int, ways: Sequence[str]) -> bool:
        # The rarest winner has one race in twenty: it may hide for a hundred races.
        is_too_early = _ENOUGH <= len(finishes) < rounds * _PATIENCE
        return is_too_early and not set(ways) <= {finish.won for finish in finishes}


def _compare(finish: Finish, facts: Facts) -> None:
    assert contradictions(facts) == [], facts
    assert facts.status == finish.status, facts
    # Refusals among each other come in any order; that the changes are a path was checked.
    assert Counter(facts.events) == Counter(finish.events), facts
    assert Counter(facts.charges) == Counter(finish.charges), facts
    assert Counter(facts.refunds) == Counter(finish.refunds), facts


@contextmanager
def _short_turns() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)

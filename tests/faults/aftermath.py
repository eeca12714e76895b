"""How every run of the attack ends: the faults stop, everything settles, everything is right.

Three sources that know nothing of each other are compared: the gateway's books, the two
databases, and what the clients were told.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from order_service.verification.verify import verify
from service_kit.audit.chain import ChainKey
from service_kit.audit.verify import verify as verify_trail
from service_kit.clock import Clock
from service_kit.database import Database
from service_kit.errors import StorageUnavailable
from tests.checkout import Checkout
from tests.faults.figures import Figures
from tests.faults.history import Call
from tests.faults.history_check import problems
from tests.faults.in_flight import in_flight
from tests.faults.truth import Truth, read_truth
from tests.system.trails import SECRET_KEY, TRAILS

# What the product promises: nothing is in flight for longer once the faults have stopped.
SETTLED_WITHIN_SECONDS: Final = 30.0

_POLL_SECONDS: Final = 0.1
_NAMED_MAX: Final = 50


@dataclass(frozen=True)
class Books:
    """Where the truth is: both databases, read by the test itself, and the gateway's file."""

    order_database: Database
    payment_database: Database
    ledger: Path


def books_of(checkout: Checkout) -> Books:
    """Look into a checkout that runs in this process."""
    return Books(
        order_database=checkout.order_database,
        payment_database=checkout.payment_database,
        ledger=checkout.payment_settings.effective_gateway_ledger(),
    )


@dataclass(frozen=True)
class Aftermath:
    """What is left: `stuck` is what has not settled in time, `problems` is all that is wrong."""

    truth: Truth
    stuck: Sequence[str]
    problems: Sequence[str]


def check_aftermath(
    books: Books, calls: Iterable[Call], figures: Figures, *, clock: Clock | None = None
) -> Truth:
    """Wait until nothing is in flight, compare all sources, and fail with every problem."""
    aftermath = look_at_aftermath(books, calls, figures, clock=clock)
    assert not aftermath.problems, report_of(aftermath.problems)
    return aftermath.truth


def look_at_aftermath(
    books: Books, calls: Iterable[Call], figures: Figures, *, clock: Clock | None = None
) -> Aftermath:
    """Wait until nothing is in flight, and compare all sources.

    `clock` is that of the services, if it is not the machine's.
    """
    began = time.monotonic()
    stuck = settled(books)
    figures.observe("until all is settled after the faults", time.monotonic() - began)
    truth = read_truth(books.order_database, books.ledger)
    calls = list(calls)
    figures.add("charges", len(truth.charges))
    figures.add("refunds", len(truth.refunds))
    figures.add("calls whose answers were checked", len(calls))
    found = [*stuck, *violations(books, figures, clock=clock), *problems(calls, truth)]
    return Aftermath(truth, stuck, found)


def settled(books: Books, *, within_seconds: float = SETTLED_WITHIN_SECONDS) -> list[str]:
    """Wait until nothing is in flight. Return what still is when the time is over."""
    give_up_at = time.monotonic() + within_seconds
    while True:
        try:
            left = in_flight(books.order_database, books.payment_database)
        except StorageUnavailable as error:
            left = [f"a database does not answer: {error}"]
        if not left or time.monotonic() > give_up_at:
            return left
        time.sleep(_POLL_SECONDS)


def violations(books: Books, figures: Figures, *, clock: Clock | None = None) -> Sequence[str]:
    """Ask the product's own verification of the two databases and the gateway's books.

    No fault may break the chain of a history either.
    """
    report = verify(
        order_database=books.order_database,
        payment_database=books.payment_database,
        ledger=books.ledger,
        clock=clock,
    )
    figures.add("orders checked", report.orders)
    # The last line is the sum. Nothing here may have to wait for a person.
    return [*list(report.lines())[:-1], *damages(books)]


def damages(books: Books) -> list[str]:
    """Name every history whose seals do not fit."""
    databases = (books.order_database, books.payment_database)
    return [
        str(damage)
        for database, trail in zip(databases, TRAILS, strict=True)
        for damage in verify_trail(database, trail, ChainKey.of(trail.service, SECRET_KEY)).damages
    ]


def report_of(found: Sequence[str]) -> str:
    """Name the first problems, one to a line, and count the others."""
    named = found[:_NAMED_MAX]
    more = [f"and {len(found) - len(named)} more"] if len(found) > len(named) else []
    return "\n".join([f"{len(found)} problems:", *named, *more])

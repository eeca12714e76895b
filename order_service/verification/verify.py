"""Verify that the guarantees hold, on systems at rest and on those that move on meanwhile."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from order_service.verification import guarantees, in_flight
from order_service.verification.books import Ledger
from order_service.verification.evidence import KeyName
from order_service.verification.read_evidence import Sources
from order_service.verification.report import Report, Violation, Waiting
from service_kit.clock import Clock, SystemClock
from service_kit.database import Database

S = TypeVar("S", str, KeyName)

BATCH: Final = 500
# The sources are read one after the other, so what was only on its way looks wrong. It looks
# otherwise at the next look; what looks the same every time is wrong.
PAUSES_SECONDS: Final = (0.2, 0.5, 1.0)
# So many suspects are looked at again before reading on.
SUSPECTS_MAX: Final = 1_000


def verify(
    *,
    order_database: Database,
    payment_database: Database,
    ledger: Path | None,
    clock: Clock | None = None,
    order_id: str = "",
    batch: int = BATCH,
    pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    progress: Callable[[int], None] = lambda _orders: None,
) -> Report:
    """Check every order, or one, and say what is wrong.

    `clock` is that of the services. `batch` orders are looked at together; what looks wrong is
    looked at again after each pause. `progress` is told how many orders have been looked at.
    Of one order, only the keys of its operations are checked; without a ledger, everything else.

    Raises StorageUnavailable, LedgerUnreadable.
    """
    sources = Sources(
        order_database=order_database,
        payment_database=payment_database,
        ledger=Ledger(ledger) if ledger else None,
        clock=clock or SystemClock(),
    )
    return _Verification(sources, batch, pauses_seconds, progress).run(order_id)


class _Verification:
    def __init__(
        self,
        sources: Sources,
        batch: int,
        pauses_seconds: Sequence[float],
        progress: Callable[[int], None],
    ) -> None:
        self._sources = sources
        self._batch = batch
        self._pauses_seconds = pauses_seconds
        self._progress = progress
        self._orders = 0
        self._violations: list[Violation] = []
        self._waiting: set[Waiting] = set()

    def run(self, order_id: str) -> Report:
        if order_id:
            self._orders = 1 - len(self._sources.unknown([order_id]))
            self._check([[order_id]], self._orders_look)
            self._check([self._sources.key_names_of(order_id)], self._keys_look)
        else:
            self._run_all()
        return Report(
            orders=self._orders,
            violations=tuple(sorted(set(self._violations))),
            waiting=tuple(sorted(self._waiting)),
            has_ledger=self._sources.has_ledger,
        )

    def _run_all(self) -> None:
        self._check(self._counted(self._pages(self._sources.order_ids, "")), self._orders_look)
        # What names an order that does not exist was in no batch yet.
        for list_ids in (
            self._sources.paid_order_ids,
            self._sources.charged_order_ids,
            self._sources.waiting_order_ids,
        ):
            unknown = (self._sources.unknown(page) for page in self._pages(list_ids, ""))
            self._check(unknown, self._orders_look)
        self._check(self._pages(self._sources.key_names, KeyName("", "", "")), self._keys_look)

    def _counted(self, pages: Iterator[list[str]]) -> Iterator[list[str]]:
        for page in pages:
            yield page
            self._orders += len(page)
            self._progress(self._orders)

    def _pages(self, list_some: Callable[[S, int], list[S]], first: S) -> Iterator[list[S]]:
        after = first
        while page := list_some(after, self._batch):
            yield page
            after = page[-1]

    def _check(
        self,
        pages: Iterator[list[S]] | Sequence[list[S]],
        look: Callable[[Sequence[S]], dict[S, set[Violation]]],
    ) -> None:
        suspects: dict[S, set[Violation]] = {}
        for page in pages:
            if page:
                suspects |= look(page)
            if len(suspects) >= SUSPECTS_MAX:
                self._violations += self._confirmed(suspects, look)
                suspects = {}
        self._violations += self._confirmed(suspects, look)

    def _confirmed(
        self,
        suspects: dict[S, set[Violation]],
        look: Callable[[Sequence[S]], dict[S, set[Violation]]],
    ) -> list[Violation]:
        """Look at the suspects again and return what is wrong at every look."""
        for pause in self._pauses_seconds:
            if not suspects:
                break
            time.sleep(pause)
            names, again = list(suspects), dict[S, set[Violation]]()
            for start in range(0, len(names), self._batch):
                again |= look(names[start : start + self._batch])
            lasting = {name: suspects[name] & again.get(name, set()) for name in names}
            suspects = {name: violations for name, violations in lasting.items() if violations}
        return [violation for violations in suspects.values() for violation in violations]

    def _orders_look(self, order_ids: Sequence[str]) -> dict[str, set[Violation]]:
        found = {}
        for evidence in self._sources.of_orders(order_ids):
            violations = set(guarantees.of_order(evidence))
            if violations:
                found[evidence.order_id] = violations
            for told in in_flight.waits_for_a_person(evidence):
                self._waiting.add(Waiting(evidence.order_id, told))
        return found

    def _keys_look(self, names: Sequence[KeyName]) -> dict[KeyName, set[Violation]]:
        found = {}
        for evidence in self._sources.of_keys(names):
            violations = set(guarantees.of_key(evidence))
            if violations:
                found[evidence.key.name] = violations
        return found

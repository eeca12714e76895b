"""The gateway, its answers written down (P2), the age of its keys, and an operator's word.

A row that was pending has been sent; from then on the gateway may execute it at any moment, until
what was sent under a key that has got old has arrived or is lost. A key that it remembers moves
money once.
"""

from collections.abc import Iterator

from tests.faults.model.guards import Guard
from tests.faults.model.scenario import CALLER, OPERATOR, TIME, WORKER, Scenario, Step
from tests.faults.model.state import (
    ARRIVED_OR_LOST,
    FAILED,
    FORGOTTEN,
    FRESH,
    IN_FLIGHT,
    NONE,
    OLD,
    PAYMENT,
    PENDING,
    REFUND,
    SUCCEEDED,
    WRITTEN,
    Item,
    State,
)

_AGES = {
    OLD: "gets old",
    ARRIVED_OR_LOST: "is so old that nothing under it is on its way",
    FORGOTTEN: "is forgotten by the gateway",
}


def gateway_steps(m: Scenario, s: State) -> Iterator[Step]:
    """Everything between a pending row and its outcome."""
    for kind, place, item in s.items():
        if item.row in (PENDING, SUCCEEDED, FAILED):
            yield from _execute(m, s, kind, place, item)
            yield from _answer(m, s, kind, place, item)
        if m.ages and item.row == PENDING and item.age < FORGOTTEN:
            older = item._replace(age=item.age + 1)
            if older.age == FORGOTTEN:
                older = older._replace(word=NONE)  # he has not read it half a day ago
            says = f"the key of {kind} {place} {_AGES[older.age]}"
            yield Step(says, s.put(kind, place, older), by=TIME)
        if m.ages and item.age > FRESH:
            yield from _settle(m, s, kind, place, item)


def _asker(m: Scenario, s: State, kind: str, place: int) -> str:
    """Who asks about it: its own worker, or the one that settles the operation behind it."""
    if m.has(Guard.ASKED_AGAIN):
        return WORKER
    behind = s.give_backs if kind == REFUND else s.charges
    is_in_flight = IN_FLIGHT in (*behind[place : place + 1], s.cancellation)
    return m.worker(Guard.LEFT_BEHIND_SETTLED) if is_in_flight else CALLER


def _execute(m: Scenario, s: State, kind: str, place: int, item: Item) -> Iterator[Step]:
    is_new = not item.booked and item.age < ARRIVED_OR_LOST
    by = _asker(m, s, kind, place) if item.row == PENDING and item.age == FRESH else CALLER
    if is_new and m.declines:
        declined = item._replace(is_declined=True)
        yield Step(f"the gateway declines {kind} {place}", s.put(kind, place, declined), by=by)
    is_sent_anew = item.row == PENDING and (
        not m.has(Guard.SAME_GATEWAY_KEY) or (item.age == FORGOTTEN and not m.has(Guard.NO_OLD_KEY))
    )
    if is_new or (is_sent_anew and item.moved == 1):
        moved = item._replace(moved=item.moved + 1)
        yield Step(f"the gateway executes {kind} {place}", s.put(kind, place, moved), by=by)


def _answer(m: Scenario, s: State, kind: str, place: int, item: Item) -> Iterator[Step]:
    """P2, by whoever has asked, with an answer that may be as old as it likes."""
    is_open = item.row == PENDING or not m.has(Guard.OUTCOME_COMPARED)
    if item.booked and is_open:
        # A key that is forgotten is looked up in vain; an answer of before may be on its way.
        by = _asker(m, s, kind, place) if item.age < FORGOTTEN else CALLER
        yield from _write(m, s, kind, place, item.booked, by=by)
    elif item.booked not in (NONE, item.row) and not is_open:
        heard = item._replace(heard=True, recorded=m.has(Guard.CONTRADICTION_WRITTEN))
        yield Step(f"the gateway contradicts {kind} {place}", s.put(kind, place, heard))
    if item.row == PENDING and not m.has(Guard.UNKNOWN_PAYMENT):
        yield from _write(m, s, kind, place, FAILED)
    if item.row == PENDING and not m.has(Guard.PENDING_NOT_REPEATED):
        stored = s.put(kind, place, item._replace(said=(PENDING,)))
        yield Step(f"the reply that {kind} {place} is pending is stored", stored)


def _write(
    m: Scenario, s: State, kind: str, place: int, row: str, *, by: str = CALLER
) -> Iterator[Step]:
    """The row, its reply, its event and what it gives back, in one transaction."""
    item = (s.payments if kind == PAYMENT else s.refunds)[place]
    written = item.is_written(row)
    entries = ((kind, place, item.row, row),)
    says = f"{kind} {place} has {row}"
    if row != SUCCEEDED:
        yield Step(says, s.put(kind, place, written), entries, by)
    elif kind == PAYMENT:
        yield Step(says, s.put(kind, place, written._replace(fed=WRITTEN)), entries, by)
        if not m.has(Guard.EVENT_WITH_CHANGE):
            yield Step(says + ", and its event is lost", s.put(kind, place, written), entries)
    else:
        given = s._replace(given_back=s.given_back + item.amount)
        yield Step(says, given.put(kind, place, written), entries, by)


def _settle(m: Scenario, s: State, kind: str, place: int, item: Item) -> Iterator[Step]:
    """An operator reads the gateway's books, says what he read, and has it written down."""
    found = SUCCEEDED if item.moved else FAILED
    if item.row == PENDING:
        for word in (SUCCEEDED, FAILED) if m.errs else (found,):
            read = s.put(kind, place, item._replace(word=word))
            yield Step(f"an operator reads that {kind} {place} has {word}", read, by=OPERATOR)
    is_over = item.age >= ARRIVED_OR_LOST or not m.has(Guard.LAST_CALL_OVER)
    if item.row == PENDING and item.word and is_over:
        is_found = item.booked and item.age < FORGOTTEN and m.has(Guard.LOOK_UP_FIRST)
        ruling = (item.booked, "gateway") if is_found else (item.word, "operator")
        ruled = s.put(kind, place, item._replace(ruling=ruling))
        yield Step(f"settle finds: {ruling[0]}, says the {ruling[1]}", ruled, by=OPERATOR)
    outcome, source = item.ruling
    if outcome and item.row == PENDING:
        yield from _write(m, s, kind, place, outcome, by=OPERATOR)
    elif outcome and outcome != item.row:
        is_recorded = source == "gateway" or not m.has(Guard.WORD_IS_NO_CONTRADICTION)
        late = item._replace(
            ruling=(NONE, NONE),
            heard=item.heard or source == "gateway",
            recorded=item.recorded or is_recorded,
        )
        yield Step(f"settle comes too late for {kind} {place}", s.put(kind, place, late))

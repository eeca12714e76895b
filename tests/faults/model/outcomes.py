"""The order service: outcomes of operations (T2), and payments that the feed tells of.

T2 is run by the handler, by a repeat, or by a worker that asked: any answer that was ever given
may come at any time, any number of times.
"""

from collections.abc import Iterator

from tests.faults.model.guards import Guard
from tests.faults.model.orders import finished, shown
from tests.faults.model.scenario import WORKER, Scenario, Step
from tests.faults.model.state import (
    CANCELLED,
    CREATED,
    ENDED_BADLY,
    ENDED_VOID,
    ENDED_WELL,
    FAILED,
    IN_FLIGHT,
    IN_INBOX,
    NOBODY,
    OUT_OF_SIGHT,
    PAID,
    PAYMENT,
    PENDING,
    PRICE,
    REFUNDED,
    SUCCEEDED,
    WRITTEN,
    Item,
    State,
    replaced,
)

Entries = tuple[tuple[object, ...], ...]


def outcome_steps(m: Scenario, s: State) -> Iterator[Step]:
    """T2 of every operation, by every answer."""
    for place, status in enumerate(s.charges):
        key = m.charge_keys[place]
        if _may_end(m, status) and s.keys[key].bound == place:
            yield from _charged(m, s, place, key)
    if m.cancel and s.cancellation == IN_FLIGHT and s.keys[m.cancel_key].bound != NOBODY:
        yield from _cancelled(m, s)
    for place, status in enumerate(s.give_backs):
        if _may_end(m, status) and s.keys[m.refund_key(place)].bound != NOBODY:
            yield from _refunded(m, s, place)


def feed_steps(m: Scenario, s: State) -> Iterator[Step]:
    """The feed consumer, and the inbox behind it."""
    for place, payment in enumerate(s.payments):
        if payment.fed == WRITTEN:
            yield from _read(m, s, place, payment)
        elif payment.fed == IN_INBOX:
            yield from _apply(m, s, place, payment)


def _may_end(m: Scenario, status: str) -> bool:
    if not m.has(Guard.OPERATION_COMPARED):
        return status in (IN_FLIGHT, ENDED_WELL, ENDED_BADLY)
    return status == IN_FLIGHT


def _charged(m: Scenario, s: State, place: int, key: int) -> Iterator[Step]:
    payment = s.payments[place]
    for answer in payment.said:
        heard = f"charge {place} has {answer}"
        if answer == SUCCEEDED:
            if s.status == CREATED or s.paid_by == place:
                ended = _with_charge(s, place, ENDED_WELL)
                paid, entries = _paid(m, ended, place)
                yield from _end(m, heard, paid, key, shown(paid), entries=entries)
        elif answer == FAILED:
            ended = _with_charge(s, place, ENDED_BADLY)
            yield from _end(m, heard, ended, key, "refused: declined", entries=(("refused", key),))
        elif s.charges[place] == IN_FLIGHT:
            free = _with_charge(s, place, ENDED_VOID)
            free = free.with_key(key, free.keys[key]._replace(bound=NOBODY))
            by = m.worker(Guard.LEFT_BEHIND_SETTLED)
            yield Step(heard + ": its key is free", free, by=by)
    if payment.row == PENDING and not m.has(Guard.PENDING_NOT_STORED):
        yield Step(f"the reply of charge {place} says pending", finished(s, key, "pending"))
    if s.charges[place] == IN_FLIGHT and not m.has(Guard.UNKNOWN_OPERATION):
        ended = _with_charge(s, place, ENDED_BADLY)
        yield from _end(
            m,
            f"charge {place} timed out",
            ended,
            key,
            "refused: declined",
            entries=(("refused", key),),
        )


def _cancelled(m: Scenario, s: State) -> Iterator[Step]:
    for place in s.seal_said:
        key = m.cancel_key
        if place == NOBODY or not m.has(Guard.CANCEL_YIELDS):
            if s.status == CREATED:
                ended = s._replace(cancellation=ENDED_WELL, status=CANCELLED)
                change = (("order", CREATED, CANCELLED),)
                yield from _end(m, "the order is sealed", ended, key, shown(ended), entries=change)
        elif s.status == CREATED or s.paid_by == place:
            paid, entries = _paid(m, s._replace(cancellation=ENDED_BADLY), place)
            entries = (*entries, ("refused", key))
            heard = f"the seal finds payment {place}"
            yield from _end(m, heard, paid, key, "refused: paid", entries=entries)


def _refunded(m: Scenario, s: State, place: int) -> Iterator[Step]:
    refund, key = s.refunds[place], m.refund_key(place)
    for answer in refund.said:
        heard = f"refund {place} has {answer}"
        if answer != SUCCEEDED:
            ended = s._replace(give_backs=replaced(s.give_backs, place, ENDED_BADLY))
            yield from _end(m, heard, ended, key, "refused: declined", entries=(("refused", key),))
        elif s.status == PAID and s.refunded + refund.amount <= PRICE:
            refunded = s.refunded + refund.amount
            status = REFUNDED if refunded == PRICE else PAID
            ended = s._replace(
                give_backs=replaced(s.give_backs, place, ENDED_WELL),
                refunded=refunded,
                status=status,
            )
            change: tuple[object, ...] = ("given back", s.refunded, refunded)
            if status == REFUNDED:
                change = ("order", PAID, REFUNDED)
            yield from _end(m, heard, ended, key, shown(ended), entries=(change,))
    if refund.row == PENDING and not m.has(Guard.PENDING_NOT_STORED):
        yield Step(f"the reply of refund {place} says pending", finished(s, key, "pending"))
    if s.give_backs[place] == IN_FLIGHT and not m.has(Guard.UNKNOWN_OPERATION):
        ended = s._replace(give_backs=replaced(s.give_backs, place, ENDED_BADLY))
        yield from _end(
            m,
            f"refund {place} timed out",
            ended,
            key,
            "refused: declined",
            entries=(("refused", key),),
        )


def _with_charge(s: State, place: int, status: str) -> State:
    return s._replace(charges=replaced(s.charges, place, status))


def _paid(m: Scenario, s: State, place: int) -> tuple[State, Entries]:
    """The order paid by the payment, unless it is already."""
    if s.paid_by == place:
        return s, ()
    return s._replace(status=PAID, paid_by=place), (("order", s.status, PAID),)


def _end(
    m: Scenario, heard: str, s: State, key: int, reply: str, *, entries: Entries
) -> Iterator[Step]:
    """Order, operation, entries and the reply of the key, in one transaction."""
    says = f"{heard}: {reply}"
    yield Step(says, finished(s, key, reply), entries, m.worker(Guard.LEFT_BEHIND_SETTLED))
    if not m.has(Guard.AUDIT_WITH_CHANGE):
        yield Step(says + ", and dies before the entry", finished(s, key, reply))
    if not m.has(Guard.REPLY_WITH_CHANGE):
        yield Step(says + ", and dies before the reply", s, entries)


def _read(m: Scenario, s: State, place: int, payment: Item) -> Iterator[Step]:
    seen = s.put(PAYMENT, place, payment._replace(fed=OUT_OF_SIGHT))
    if s.paid_by == place:
        yield Step(f"the feed tells of payment {place}, which the order has", seen, by=WORKER)
    elif m.has(Guard.INBOX):
        kept = s.put(PAYMENT, place, payment._replace(fed=IN_INBOX))
        yield Step(f"the feed tells of payment {place}", kept, by=WORKER)
    elif s.status == CREATED and not s.is_busy:
        paid, entries = _paid(m, seen, place)
        yield Step(f"the feed tells of payment {place}, which pays", paid, entries, by=WORKER)
    else:
        yield Step(f"the feed tells of payment {place} in vain", seen, by=WORKER)
    if not m.has(Guard.INBOX_WITH_CURSOR):
        yield Step(f"the reader moves past payment {place} and dies", seen)


def _apply(m: Scenario, s: State, place: int, payment: Item) -> Iterator[Step]:
    by = m.worker(Guard.INBOX_APPLIED)
    applied = s.put(PAYMENT, place, payment._replace(fed=OUT_OF_SIGHT))
    if s.paid_by == place:
        yield Step(f"the inbox finds the order paid by payment {place}", applied, by=by)
    elif s.status == CREATED and not (s.is_busy and m.has(Guard.INBOX_WAITS)):
        paid, entries = _paid(m, applied, place)
        yield Step(f"the inbox applies payment {place}", paid, entries, by=by)

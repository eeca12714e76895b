"""The payment service: requests that arrive, and the intents they record (P1)."""

from collections.abc import Iterator

from tests.faults.model.guards import Guard
from tests.faults.model.orders import amount_of, may_begin, may_charge
from tests.faults.model.scenario import Scenario, Step
from tests.faults.model.state import (
    CREATED,
    IN_FLIGHT,
    NOBODY,
    NONE,
    PAID,
    PAYMENT,
    PENDING,
    PRICE,
    REFUND,
    SUCCEEDED,
    VOIDED,
    Item,
    State,
)


def payment_steps(m: Scenario, s: State) -> Iterator[Step]:
    """ProcessPayment, ResolvePayment, SealOrder, RefundPayment, for the first or any later time."""
    for place, payment in enumerate(s.payments):
        if payment.row == NONE and _is_sent(m, s, place):
            yield from _process(m, s, place, payment)
        if place < len(s.charges) and s.charges[place] == IN_FLIGHT:
            yield from _resolve(m, s, place, payment)
    if m.cancel and s.cancellation != NONE:
        yield from _seal(m, s)
    for place, refund in enumerate(s.refunds):
        if refund.row == NONE:
            yield from _give_back(m, s, place, refund)


def _is_sent(m: Scenario, s: State, place: int) -> bool:
    """Whether ProcessPayment may arrive: somebody sent it, long ago or just now."""
    if place >= len(s.charges) or s.charges[place] != NONE:
        return True
    begins = s.status == CREATED and may_charge(m, s, place) and may_begin(m, s)
    return begins and not m.has(Guard.CHARGE_INTENT)


def _process(m: Scenario, s: State, place: int, payment: Item) -> Iterator[Step]:
    """P1: a row, void or pending. From then on the gateway may hear of it."""
    is_void = s.is_sealed and m.has(Guard.SEAL_COUNTS)
    is_other_live = any(other.is_live for other in s.payments)
    pending = s.put(PAYMENT, place, payment.is_written(PENDING))
    entry = ((PAYMENT, place, NONE, PENDING),)
    if is_void or (is_other_live and m.has(Guard.ONE_LIVE_PAYMENT)):
        why = "the order is sealed" if is_void else "another one is live"
        void = s.put(PAYMENT, place, payment.is_written(VOIDED))
        yield Step(
            f"payment {place} arrives and is void: {why}", void, ((PAYMENT, place, NONE, VOIDED),)
        )
    elif is_other_live and m.has(Guard.ONE_LIVE_INDEX):
        pass  # the index refuses the row, every time
    elif m.has(Guard.SEAL_LOCK):
        yield Step(f"payment {place} arrives and is pending", pending, entry)
    elif s.looking == (NONE, NOBODY):
        looking = s._replace(looking=("payment", place))
        yield Step(f"payment {place} arrives and finds neither seal nor payment", looking)
    if s.looking == ("payment", place) and not is_other_live:
        inserted = pending._replace(looking=(NONE, NOBODY))
        yield Step(f"payment {place} is inserted as pending", inserted, entry)


def _resolve(m: Scenario, s: State, place: int, payment: Item) -> Iterator[Step]:
    """ResolvePayment, by a worker: a charge that has not arrived never will."""
    by = m.worker(Guard.LEFT_BEHIND_SETTLED)
    if payment.row == NONE and m.has(Guard.TOMBSTONE) and m.has(Guard.OWN_CALLER):
        void = s.put(PAYMENT, place, payment.is_written(VOIDED))
        entry = ((PAYMENT, place, NONE, VOIDED),)
        yield Step(f"charge {place} is resolved before it arrives", void, entry, by=by)
    elif payment.row == NONE or not m.has(Guard.OWN_CALLER):
        said = payment.said if VOIDED in payment.said else (*payment.said, VOIDED)
        void = s.put(PAYMENT, place, payment._replace(said=said))
        yield Step(f"charge {place} is said to be void, and is not", void, by=by)


def _seal(m: Scenario, s: State) -> Iterator[Step]:
    """SealOrder, for the first or any later time: it seals at once, whatever it then finds."""
    by = m.worker(Guard.LEFT_BEHIND_SETTLED)
    live = [place for place, payment in enumerate(s.payments) if payment.is_live]
    succeeded = [place for place in live if s.payments[place].row == SUCCEEDED]
    found = succeeded if m.has(Guard.CANCEL_WAITS) or succeeded else []
    if not live or (not found and not m.has(Guard.CANCEL_WAITS)):
        found = [NOBODY]
    said = tuple(sorted({*s.seal_said, *found}))
    is_sealed = s.is_sealed or m.has(Guard.CANCEL_SEALS)
    if said != s.seal_said or is_sealed != s.is_sealed:
        entries = (("sealed",),) if is_sealed != s.is_sealed else ()
        sealed = s._replace(seal_said=said, is_sealed=is_sealed)
        yield Step(f"SealOrder finds {_named(found)}", sealed, entries, by=by)


def _named(found: list[int]) -> str:
    if not found:
        return "a pending payment"
    return "no payment" if found == [NOBODY] else f"payment {found[0]}"


def _give_back(m: Scenario, s: State, place: int, refund: Item) -> Iterator[Step]:
    """P1 of a refund. A worker sends it again until it is there."""
    if s.give_backs[place] == NONE:
        begins = s.status == PAID and may_begin(m, s, refund=True)
        if m.has(Guard.REFUND_INTENT) or not begins:
            return
        refund = refund._replace(amount=amount_of(m, s, place))
    by, nobody = m.worker(Guard.LEFT_BEHIND_SETTLED), (NONE, NOBODY)
    reserved = sum(other.amount for other in s.refunds if other.is_live)
    fits = reserved + refund.amount <= PRICE or not m.has(Guard.SUM_CHECKED)
    pending = s.put(REFUND, place, refund.is_written(PENDING))
    entry = ((REFUND, place, NONE, PENDING),)
    if not fits:
        void = s.put(REFUND, place, refund.is_written(VOIDED))
        refusal = ((REFUND, place, NONE, VOIDED),)
        yield Step(f"refund {place} is more than is left", void, refusal, by=by)
    elif m.has(Guard.SUM_LOCKED) or s.looking not in (nobody, ("refund", place)):
        yield Step(f"refund {place} arrives and is pending", pending, entry, by=by)
    elif s.looking == nobody:
        looking = s._replace(looking=("refund", place))
        yield Step(f"refund {place} finds enough left and holds no lock", looking, by=by)
    if s.looking == ("refund", place):
        inserted = pending._replace(looking=(NONE, NOBODY))
        yield Step(f"refund {place} is inserted as pending", inserted, entry, by=by)

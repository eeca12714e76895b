"""The order service: calls of one transaction, the first transaction of operations, and keys.

PayOrder, CancelOrder and RefundOrder commit their intent here (T1); the remote call follows or
not, once or often, now or late: from here on the payment service may hear of it at any time.
"""

from collections.abc import Iterator

from tests.faults.model.guards import Guard
from tests.faults.model.scenario import TIME, Scenario, Step
from tests.faults.model.state import (
    ARCHIVED,
    CREATED,
    ENDED_WELL,
    FULFILLED,
    IN_FLIGHT,
    NOBODY,
    NONE,
    PAID,
    PRICE,
    REFUND,
    SUCCEEDED,
    Key,
    State,
    replaced,
)


def order_steps(m: Scenario, s: State) -> Iterator[Step]:
    """PayOrder, CancelOrder, RefundOrder: T1. MarkOrderPaid, FulfillOrder, ArchiveOrder."""
    yield from _pay(m, s)
    if m.cancel:
        yield from _cancel(m, s)
    for place, amount in enumerate(m.refunds):
        yield from _refund(m, s, place, amount)
    yield from _mark_paid(m, s)
    if m.fulfil:
        yield from _fulfil(m, s)
    if not m.has(Guard.REPLY_STORED):
        yield from _compute_anew(s)
    if m.forgets:
        yield from _forget(m, s)


def may_begin(m: Scenario, s: State, *, refund: bool = False) -> bool:
    """Whether T1 may insert its intent: by its own look, and by the index behind it."""
    if not s.is_busy and not (ENDED_WELL in s.charges and not refund):
        return True
    if s.is_busy and m.has(Guard.NOTHING_IN_FLIGHT):
        return False
    if not m.has(Guard.ONE_OPERATION_INDEX):
        return True
    if refund:
        return IN_FLIGHT not in s.give_backs
    taken = (IN_FLIGHT, ENDED_WELL)
    return s.cancellation not in taken and not any(charge in taken for charge in s.charges)


def is_held(s: State, key: int) -> bool:
    """Whether a call under the key is a repeat: it gets the reply, or continues the operation."""
    return bool(s.keys[key].reply) or s.keys[key].bound != NOBODY


def may_charge(m: Scenario, s: State, place: int) -> bool:
    """Whether T1 of PayOrder would begin this charge: its key is free, and it is the next."""
    key = m.charge_keys[place]
    if is_held(s, key) or s.charges[place] != NONE:
        return False
    return all(s.charges[i] != NONE for i in range(place) if m.charge_keys[i] == key)


def amount_of(m: Scenario, s: State, place: int) -> int:
    """How much RefundOrder asks for: no amount means all that is left."""
    return m.refunds[place] or PRICE - s.refunded


def _pay(m: Scenario, s: State) -> Iterator[Step]:
    for place in range(len(m.charges)):
        if not may_charge(m, s, place):
            continue
        key = m.charge_keys[place]
        if s.status != CREATED:
            yield from _refuse(m, s, key, f"PayOrder {m.charges[place]}")
        elif may_begin(m, s) and m.has(Guard.CHARGE_INTENT):
            begun = s._replace(charges=replaced(s.charges, place, IN_FLIGHT))
            bound = s.keys[key]._replace(bound=place, is_claim_old=False)
            yield Step(
                f"PayOrder {m.charges[place]} records charge {place}", begun.with_key(key, bound)
            )


def _cancel(m: Scenario, s: State) -> Iterator[Step]:
    if is_held(s, m.cancel_key):
        return
    if s.status != CREATED:
        yield from _refuse(m, s, m.cancel_key, "CancelOrder")
    elif s.cancellation == NONE and may_begin(m, s):
        begun = s._replace(cancellation=IN_FLIGHT)
        yield Step("CancelOrder records its intent", begun.with_key(m.cancel_key, Key(bound=0)))


def _refund(m: Scenario, s: State, place: int, wanted: int) -> Iterator[Step]:
    key = m.refund_key(place)
    if is_held(s, key):
        return
    if s.status != PAID:
        yield from _refuse(m, s, key, f"RefundOrder {place}")
        return
    is_free = s.give_backs[place] == NONE and may_begin(m, s, refund=True)
    if not is_free or not m.has(Guard.REFUND_INTENT):
        return
    amount = wanted or PRICE - s.refunded
    if amount > PRICE - s.refunded and m.has(Guard.WITHIN_WHAT_IS_LEFT):
        yield from _refuse(m, s, key, f"RefundOrder {place}")
        return
    begun = s._replace(give_backs=replaced(s.give_backs, place, IN_FLIGHT))
    begun = begun.put(REFUND, place, s.refunds[place]._replace(amount=amount))
    yield Step(
        f"RefundOrder {place} records its intent to give {amount} back",
        begun.with_key(key, Key(bound=place)),
    )


def _mark_paid(m: Scenario, s: State) -> Iterator[Step]:
    """MarkOrderPaid, of which the second transaction checks everything again."""
    if s.status != CREATED or (s.is_busy and m.has(Guard.MARK_WAITS)):
        return
    for place, payment in enumerate(s.payments):
        is_there = payment.row != NONE and not m.has(Guard.MARK_ASKS)
        if SUCCEEDED in payment.said or is_there:
            yield Step(
                f"MarkOrderPaid finds payment {place}",
                s._replace(status=PAID, paid_by=place),
                (("order", CREATED, PAID),),
            )


def _fulfil(m: Scenario, s: State) -> Iterator[Step]:
    waits = s.is_busy and m.has(Guard.FULFIL_WAITS)
    may_fulfil = s.status == PAID and not waits
    entries = (("order", s.status, FULFILLED),)
    if m.has(Guard.ORDER_LOCK):
        if may_fulfil:
            yield Step("FulfillOrder", s._replace(status=FULFILLED), entries)
    elif s.looking == (NONE, NOBODY):
        if may_fulfil:
            looking = s._replace(looking=("fulfil", NOBODY))
            yield Step("FulfillOrder looks at the order and holds no lock", looking)
    elif s.looking[0] == "fulfil":
        done = s._replace(looking=(NONE, NOBODY))
        if may_fulfil or not m.has(Guard.ORDER_REVISION):
            done = done._replace(status=FULFILLED)
            yield Step("FulfillOrder writes what it decided", done, entries)
        else:
            yield Step("FulfillOrder finds the order changed", done)
    if s.status == FULFILLED:
        archived = s._replace(status=ARCHIVED)
        yield Step("ArchiveOrder", archived, (("order", FULFILLED, ARCHIVED),))


def _refuse(m: Scenario, s: State, key: int, call: str) -> Iterator[Step]:
    """Store a refusal with its entry. It touches nothing but its own key."""
    if m.repeats:
        reply = f"refused: {s.status}, {PRICE - s.refunded} left"
        yield Step(f"{call} is {reply}", finished(s, key, reply), (("refused", key),))


def shown(s: State) -> str:
    """A reply that shows the order."""
    return f"ok, {s.status}, {s.refunded} given back"


def _compute_anew(s: State) -> Iterator[Step]:
    for place, key in enumerate(s.keys):
        if key.reply.startswith("ok"):
            yield Step(f"a repeat of key {place} gets {shown(s)}", finished(s, place, shown(s)))


def finished(s: State, key: int, reply: str) -> State:
    """The state with the final reply stored under the key, and given."""
    held = s.keys[key]
    told = held.told if reply in held.told else (*held.told, reply)
    return s.with_key(key, held._replace(reply=reply, told=told))


def _forget(m: Scenario, s: State) -> Iterator[Step]:
    """The reaper, and the 24 hours that it counts."""
    for place, key in enumerate(s.keys):
        if key.told:
            later = s.with_key(place, key._replace(told=(), is_claim_old=True))
            yield Step(f"24 hours pass since the reply of key {place}", later, by=TIME)
        if (key.bound != NOBODY or key.reply) and not key.is_claim_old:
            later = s.with_key(place, key._replace(is_claim_old=True))
            yield Step(f"24 hours pass since key {place} was claimed", later, by=TIME)
        is_expired = key.reply and not key.told
        if not m.has(Guard.KEPT_FROM_REPLY):
            is_expired = key.reply and key.is_claim_old
        if not m.has(Guard.KEPT_IN_FLIGHT) and key.bound != NOBODY and not key.reply:
            is_expired = key.is_claim_old
        if is_expired:
            yield Step(f"the reaper forgets key {place}", s.with_key(place, Key(told=key.told)))

"""What must hold in every state, and of every step. Each law returns what is wrong, or nothing."""

from collections.abc import Callable, Iterator
from typing import Final

from tests.faults.model.scenario import Scenario, Step
from tests.faults.model.state import (
    ARCHIVED,
    CANCELLED,
    CREATED,
    ENDED_BADLY,
    ENDED_VOID,
    ENDED_WELL,
    FAILED,
    FORGOTTEN,
    FRESH,
    FULFILLED,
    NOBODY,
    NONE,
    OUT_OF_SIGHT,
    PAID,
    PENDING,
    PRICE,
    REFUNDED,
    SUCCEEDED,
    UNWRITTEN,
    VOIDED,
    Item,
    State,
)

ARROWS: Final = {
    (CREATED, PAID),
    (CREATED, CANCELLED),
    (PAID, FULFILLED),
    (PAID, REFUNDED),
    (FULFILLED, ARCHIVED),
}
HAS_MONEY: Final = (PAID, FULFILLED, ARCHIVED)


def money_moves_once(s: State) -> str:
    """I1, by the gateway's own books."""
    if sum(payment.moved for payment in s.payments) > 1:
        return "I1: two charges"
    if any(refund.moved > 1 for refund in s.refunds):
        return "I1: one refund, twice"
    return ""


def status_agrees_with_payments(s: State) -> str:
    """I2 and I3."""
    succeeded = [place for place, payment in enumerate(s.payments) if payment.row == SUCCEEDED]
    if s.status in (CREATED, CANCELLED):
        if s.paid_by != NOBODY:
            return f"I2: {s.status} with a payment"
        if s.status == CANCELLED and any(payment.moved for payment in s.payments):
            return "I3: cancelled and charged"
    elif succeeded != [s.paid_by] or s.payments[s.paid_by].moved != 1:
        return f"I2: {s.status} without exactly one succeeded payment"
    return ""


def final_replies_stay(s: State) -> str:
    """I4, of both services."""
    if any(len(key.told) > 1 for key in s.keys):
        return "I4: another final reply under the same key"
    if any(len(item.said) > 1 for item in (*s.payments, *s.refunds)):
        return "I4: another final answer of the payment service"
    return ""


def rows_agree_with_gateway(s: State) -> str:
    """Nothing is called failed or void that has moved money, nor succeeded that has not."""
    for kind, place, item in s.items():
        if item.row == SUCCEEDED and not item.moved:
            return f"{kind} {place} has succeeded without the gateway"
        if item.row in (FAILED, VOIDED) and item.moved:
            return f"{kind} {place} is {item.row}, and the gateway has moved the money"
    return ""


def operations_agree_with_payments(s: State) -> str:
    """A charge and its payment end together; an operation without success moves no money."""
    for place, status in enumerate(s.charges):
        if status != NONE and (status == ENDED_WELL) != (s.paid_by == place):
            return f"charge {place} is {status} apart from its payment"
        if status in (ENDED_BADLY, ENDED_VOID) and s.payments[place].moved:
            return f"charge {place} {status}, and the gateway has the money"
    return ""


def refunds_add_up(s: State) -> str:
    """I6."""
    moved = sum(refund.moved * refund.amount for refund in s.refunds)
    if moved > PRICE * sum(payment.moved for payment in s.payments):
        return "I6: more is given back than was taken"
    if s.status == REFUNDED and moved != PRICE:
        return "I6: refunded, and not all is back"
    if s.status in (FULFILLED, ARCHIVED) and moved >= PRICE:
        return f"I6: {s.status}, and all is back"
    reserved = sum(refund.amount for refund in s.refunds if refund.is_live)
    if reserved > PRICE:
        return "I6: refunds that may succeed exceed the payment"
    written = sum(refund.amount for refund in s.refunds if refund.row == SUCCEEDED)
    if s.given_back != written:
        return "I6: the payment's sum is not that of its refunds"
    ended = 0
    for place, status in enumerate(s.give_backs):
        if status == ENDED_WELL:
            ended += s.refunds[place].amount
            if s.refunds[place].row != SUCCEEDED:
                return "I6: a refund ended well that did not succeed"
        elif status == ENDED_BADLY and s.refunds[place].moved:
            return "I6: a refund ended badly that moved money"
    return "" if s.refunded == ended else "I6: the order's sum is not that of its refunds"


def feed_tells_all(s: State) -> str:
    """I8: an event is there from the moment the payment has succeeded, and never before."""
    for payment in s.payments:
        if (payment.row == SUCCEEDED) != (payment.fed != UNWRITTEN):
            return "I8: a succeeded payment and its event are apart"
    return ""


def contradictions_are_written(s: State) -> str:
    """Whoever hears the gateway contradict a final row writes it down; nobody else does."""
    if any(item.heard != item.recorded for _, _, item in s.items()):
        return "a contradiction of the gateway and its entry are apart"
    return ""


def ended_operations_have_replies(m: Scenario, s: State) -> str:
    """The reply commits with the outcome."""
    if m.forgets:
        return ""
    ended = (ENDED_WELL, ENDED_BADLY)
    operations = [*zip(s.charges, m.charge_keys, strict=True)]
    operations += [(status, m.refund_key(place)) for place, status in enumerate(s.give_backs)]
    operations += [(s.cancellation, m.cancel_key)] if m.cancel else []
    if any(status in ended and not s.keys[key].reply for status, key in operations):
        return "I4: an operation has ended without its reply"
    return ""


def changes_have_entries(before: State, step: Step) -> str:
    """I7: every change has exactly one entry, in its own transaction; and every path is legal."""
    after = step.state
    if before.status != after.status and (before.status, after.status) not in ARROWS:
        return f"I7: from {before.status} to {after.status}"
    if sorted(map(str, step.entries)) != sorted(map(str, _changes(before, after))):
        return f"I7: entries {step.entries}"
    return ""


def _changes(before: State, after: State) -> Iterator[tuple[object, ...]]:
    if before.status != after.status:
        yield ("order", before.status, after.status)
    elif before.refunded != after.refunded:
        yield ("given back", before.refunded, after.refunded)
    if after.is_sealed and not before.is_sealed:
        yield ("sealed",)
    if before.keys is not after.keys:
        for place, (old, new) in enumerate(zip(before.keys, after.keys, strict=True)):
            if old.reply != new.reply and new.reply.startswith("refused"):
                yield ("refused", place)
    if before.payments is not after.payments or before.refunds is not after.refunds:
        for (kind, place, was), (_, _, item) in zip(before.items(), after.items(), strict=True):
            if was.row != item.row:
                yield (kind, place, was.row, item.row)


def is_settled(m: Scenario, s: State, *, by_itself: bool) -> str:
    """L1, where no worker has anything left to do: what is in flight waits for a person.

    `by_itself`: not even a person has anything left to do, so nothing may be.
    """
    waiting = [item for _, _, item in s.items() if item.row == PENDING]
    if not by_itself:
        waiting = [item for item in waiting if not needs_human(item)]
    if waiting:
        return "L1: a pending payment or refund that nobody asks about"
    is_stuck = False if by_itself else any(item.row == PENDING for _, _, item in s.items())
    if s.is_busy and not is_stuck:
        return "L1: an operation stays in flight"
    if any(p.row == SUCCEEDED and p.fed != OUT_OF_SIGHT for p in s.payments):
        return "L1: a payment stays in the inbox"
    taken = PRICE * sum(payment.moved for payment in s.payments)
    kept = taken - sum(refund.moved * refund.amount for refund in s.refunds)
    if not is_stuck and (kept > 0) != (s.status in HAS_MONEY):
        return f"L1: {kept} kept, and the order is {s.status}"
    return ""


def needs_human(item: Item) -> bool:
    """Whether needs-human lists it: no look-up finds it."""
    return item.age > FRESH and (not item.booked or item.age == FORGOTTEN)


Law = Callable[[State], str]
LAWS: Final[tuple[Law, ...]] = (
    money_moves_once,
    status_agrees_with_payments,
    final_replies_stay,
    rows_agree_with_gateway,
    operations_agree_with_payments,
    refunds_add_up,
    feed_tells_all,
    contradictions_are_written,
)
# What is left of them where an operator may say what he likes.
LAWS_OF_RECORDS: Final[tuple[Law, ...]] = (
    final_replies_stay,
    feed_tells_all,
    contradictions_are_written,
)

"""Check a history: does what the clients were told fit to what really happened?

A pure function. It takes time in proportion to the history, because the entries of the order
history say in which order the changes were made: nothing has to be searched for.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

from tests.faults.history import Answered, Call, Refused, Request, Unknown
from tests.faults.money_check import money_problems
from tests.faults.order_check import order_problems
from tests.faults.truth import Entry, Truth

# What each RPC writes down when it has done what it is for.
EFFECTS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "CreateOrder": frozenset({"order_created"}),
        "PayOrder": frozenset({"order_paid"}),
        "MarkOrderPaid": frozenset({"order_paid"}),
        "CancelOrder": frozenset({"order_cancelled"}),
        "FulfillOrder": frozenset({"order_fulfilled"}),
        "RefundOrder": frozenset({"order_partially_refunded", "order_refunded"}),
        "ArchiveOrder": frozenset({"order_archived"}),
    }
)

# Service, role and name of the caller, and the key that the caller chose.
_Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Repeats:
    """All calls with the same key and the same bytes."""

    calls: Sequence[Call]

    def __str__(self) -> str:
        return str(self.calls[0])

    @property
    def request(self) -> Request:
        """What they ask for."""
        return self.calls[0].request

    def entries(self, truth: Truth) -> list[Entry]:
        """What they have written down."""
        traces = dict.fromkeys(call.request.trace_id for call in self.calls)
        return [entry for trace_id in traces for entry in truth.of_trace.get(trace_id, [])]

    @cached_property
    def finals(self) -> list[Answered | Refused]:
        """What must never be followed by something else."""
        outcomes = (call.outcome for call in self.calls)
        return [
            outcome
            for outcome in outcomes
            if isinstance(outcome, Answered) or (isinstance(outcome, Refused) and outcome.final)
        ]

    @property
    def is_open(self) -> bool:
        """Whether it may have been done although nobody was told."""
        return any(isinstance(call.outcome, Unknown) for call in self.calls)

    @property
    def invoked(self) -> float:
        """Before this it cannot have happened."""
        return min(call.invoked for call in self.calls)

    @property
    def returned(self) -> float | None:
        """By then it has happened; None if nobody was told."""
        told = [call.returned for call in self.calls if isinstance(call.outcome, Answered)]
        return min(told, default=None)


def problems(calls: Iterable[Call], truth: Truth) -> list[str]:
    """List what does not fit, a sentence each. An empty list is a history that holds."""
    calls = list(calls)
    requests = _requests(calls)
    return [
        *_of_requests(requests, truth),
        *_of_keys(requests, truth),
        *_of_strangers(requests, truth),
        *_of_real_time(requests, truth),
        *order_problems(calls, truth),
        *money_problems(calls, truth),
    ]


def _requests(calls: Iterable[Call]) -> list[Repeats]:
    found: defaultdict[tuple[_Key, bytes], list[Call]] = defaultdict(list)
    for call in calls:
        if call.request.key:
            found[_key(call.request), call.request.body].append(call)
    return [Repeats(repeats) for repeats in found.values()]


def _key(request: Request) -> _Key:
    return request.service, request.caller.role, request.caller.id, request.key


def _of_requests(requests: Iterable[Repeats], truth: Truth) -> Iterator[str]:
    for repeats in requests:
        yield from _of_replies(repeats)
        if repeats.request.rpc in EFFECTS:
            entries = repeats.entries(truth)
            applied = [entry for entry in entries if entry.applied]
            refusals = [entry for entry in entries if not entry.applied]
            yield from _of_effects(repeats, applied, refusals)


def _of_replies(repeats: Repeats) -> Iterator[str]:
    told = {(type(final), final.reply) for final in repeats.finals}
    if len(told) > 1:
        yield f"{repeats}: {len(told)} different final replies"
    for call in repeats.calls:
        if isinstance(call.outcome, Refused) and call.outcome.reason == "INTERNAL":
            yield f"{repeats}: INTERNAL, trace {call.request.trace_id}"


def _of_effects(
    repeats: Repeats, applied: Sequence[Entry], refusals: Sequence[Entry]
) -> Iterator[str]:
    wanted = EFFECTS[repeats.request.rpc]
    done = sum(entry.event_type in wanted for entry in applied)
    written = f"done {done} times, refused {[entry.reason for entry in refusals]}"
    match repeats.finals:
        case [Answered(), *_]:
            # Somebody else may have marked the order paid by the same payment.
            fewest = 0 if repeats.request.rpc == "MarkOrderPaid" else 1
            if refusals or not fewest <= done <= 1:
                yield f"{repeats}: answered, but {written}"
        case [Refused(reason=reason), *_]:
            if done or [entry.reason for entry in refusals] != [reason]:
                yield f"{repeats}: refused for good ({reason}), but {written}"
        case _:
            if done + len(refusals) > (1 if repeats.is_open else 0):
                yield f"{repeats}: told nothing final, but {written}"
    for entry in applied:
        if entry.event_type not in wanted and not _is_late_payment(repeats, entry, done):
            yield f"{repeats}: wrote {entry.event_type} (entry {entry.sequence})"


def _is_late_payment(repeats: Repeats, entry: Entry, done: int) -> bool:
    """Say whether a cancellation met a payment that had already succeeded."""
    return repeats.request.rpc == "CancelOrder" and entry.event_type == "order_paid" and not done


def _of_keys(requests: Iterable[Repeats], truth: Truth) -> Iterator[str]:
    users: defaultdict[_Key, list[Repeats]] = defaultdict(list)
    for repeats in requests:
        users[_key(repeats.request)].append(repeats)
    for (*_, caller, key), sharing in users.items():
        effective = [str(r) for r in sharing if r.finals or r.entries(truth)]
        if len(effective) > 1:
            yield f"the key {key} of {caller} was good for several: {' and '.join(effective)}"


def _of_strangers(requests: Iterable[Repeats], truth: Truth) -> Iterator[str]:
    known = {call.request.trace_id for repeats in requests for call in repeats.calls}
    for entry in truth.entries:
        by_worker = entry.actor_role == "order_service" and entry.event_type == "order_paid"
        if entry.trace_id not in known and not by_worker:
            yield (
                f"order {entry.order_id}: nobody asked for {entry.event_type}"
                f" (entry {entry.sequence}, trace {entry.trace_id})"
            )


def _of_real_time(requests: Iterable[Repeats], truth: Truth) -> Iterator[str]:
    """A change that was told before another was asked for has the smaller number."""
    changes: defaultdict[str, list[tuple[int, Repeats]]] = defaultdict(list)
    for repeats in requests:
        for entry in repeats.entries(truth):
            if entry.applied and entry.event_type in EFFECTS.get(repeats.request.rpc, ()):
                changes[entry.order_id].append((entry.sequence, repeats))
    for order_id, made in changes.items():
        made.sort(key=lambda change: change[0])
        # Read backwards: nothing that follows may have been told before this was asked for.
        told_first: float | None = None
        teller = ""
        for _sequence, repeats in reversed(made):
            if told_first is not None and told_first < repeats.invoked:
                yield f"order {order_id}: {teller} was told before {repeats}, and came after it"
            if (returned := repeats.returned) is not None and (
                told_first is None or returned < told_first
            ):
                told_first, teller = returned, str(repeats)

"""Check what clients were shown of each order: a state it was in, and never an older one again."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.faults.history import Answered, Call, Refused, SeenOrder
from tests.faults.truth import Truth


class _Sight(NamedTuple):
    call: Call
    order: SeenOrder
    # A stored reply shows the order as it was when the reply was stored.
    is_fresh: bool

    @property
    def state(self) -> tuple[int, int]:
        """Only ever grows."""
        return self.order.version, self.order.refunded


def order_problems(calls: Iterable[Call], truth: Truth) -> Iterator[str]:
    """List what was shown and never was, and what was shown after something newer."""
    calls = list(calls)
    sights = _sights(calls)
    for order_id, of_order in sights.items():
        yield from _of_path(order_id, of_order, truth)
        yield from _of_order(order_id, of_order)
    yield from _of_missing(calls, sights)


def _sights(calls: Iterable[Call]) -> dict[str, list[_Sight]]:
    found: defaultdict[str, list[_Sight]] = defaultdict(list)
    for call in calls:
        outcome = call.outcome
        if isinstance(outcome, Answered) and outcome.order is not None:
            sight = _Sight(call, outcome.order, is_fresh=not outcome.replayed)
            found[sight.order.id].append(sight)
    return found


def _of_path(order_id: str, sights: Iterable[_Sight], truth: Truth) -> Iterator[str]:
    steps = truth.steps.get(order_id, [])
    for call, order, _ in sights:
        if not 1 <= order.version <= len(steps):
            yield f"{call}: shown {order.status} in version {order.version} of {len(steps)}"
        elif order.status != steps[order.version - 1].to_status:
            was = steps[order.version - 1].to_status
            yield f"{call}: shown {order.status}, was {was} in version {order.version}"
    before = ""
    for step in steps:
        if step.from_status != before:
            yield f"order {order_id}: from {before} to {step.from_status} without an entry"
        before = step.to_status


def _of_order(order_id: str, sights: Iterable[_Sight]) -> Iterator[str]:
    """Whoever asks after something was shown is shown that or something newer."""
    sights = list(sights)
    by_return = sorted(sights, key=lambda sight: sight.call.returned)
    newest: _Sight | None = None
    seen = 0
    for sight in sorted(sights, key=lambda sight: sight.call.invoked):
        while by_return[seen].call.returned < sight.call.invoked:
            if newest is None or by_return[seen].state > newest.state:
                newest = by_return[seen]
            seen += 1
        if newest is not None and sight.is_fresh and sight.state < newest.state:
            yield (
                f"order {order_id}: {sight.call.request.rpc} was shown {sight.state} after"
                f" {newest.call.request.rpc} had been shown {newest.state}"
            )


def _of_missing(calls: Iterable[Call], sights: dict[str, list[_Sight]]) -> Iterator[str]:
    shown = {order_id: min(s.call.returned for s in of) for order_id, of in sights.items()}
    for call in calls:
        if isinstance(call.outcome, Refused) and call.outcome.reason == "ORDER_NOT_FOUND":
            first = shown.get(call.request.order_id)
            if first is not None and first < call.invoked:
                yield f"{call}: not found, and had been shown before"

"""How long it takes until a kill is over.

From the moment of the kill: the first answer is there when the killed service has answered a
request successfully again. All is over when, moreover, everything that the kill had broken off has
its final answer: each request that was under way at that service and that its client insists on,
and each charge, cancellation and refund that was in flight anywhere, whether its client came back
or a worker had to end it. Whatever else happens meanwhile, further kills and restarts included,
counts too.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from operator import attrgetter
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from deploy.processes import MODULES
from order_service.storage.tables import payment_operations
from payment_service.storage.tables import payment_audit_entries, payments
from service_kit.database import Database
from tests.client import ORDER_SERVICE_NAME
from tests.faults.aftermath import Books
from tests.faults.clients import is_transient
from tests.faults.history import Answered, Call, Unknown
from tests.faults.killer import Kill

_ORDERS, _PAYMENTS = MODULES
_NEVER: Final = float("inf")


class Recovery(NamedTuple):
    """The seconds from a kill until the service answers, and until all is over."""

    first_answer: float
    all_over: float


def recoveries(kills: Iterable[Kill], calls: Iterable[Call], books: Books) -> list[Recovery]:
    """Return what each kill took to be over."""
    calls = list(calls)
    flights = sorted(_flights(books))
    found: list[Recovery] = []
    for module in MODULES:
        of_module = [call for call in calls if _module(call) == module]
        killed = sorted((k for k in kills if k.module == module), key=attrgetter("at"))
        answered = _first_answers(killed, of_module)
        over = list(answered)
        for number, end in _ends_of_calls(killed, of_module):
            over[number] = max(over[number], end - killed[number].at)
        for number, landed in _ends_of_flights(killed, flights):
            over[number] = max(over[number], (landed - killed[number].time).total_seconds())
        found += map(Recovery, answered, over)
    return found


def _module(call: Call) -> str:
    return _ORDERS if call.request.service == ORDER_SERVICE_NAME else _PAYMENTS


def _first_answers(kills: Sequence[Kill], calls: Iterable[Call]) -> list[float]:
    """Return how long after each kill something that was asked after it was answered."""
    answered = sorted(
        (call.invoked, call.returned) for call in calls if isinstance(call.outcome, Answered)
    )
    asked = [invoked for invoked, _ in answered]
    # At each index: the earliest answer to what was asked then or later.
    earliest = list(accumulate((end for _, end in reversed(answered)), min, initial=_NEVER))[::-1]
    return [earliest[bisect_right(asked, kill.at)] - kill.at for kill in kills]


def _ends_of_calls(kills: Sequence[Kill], calls: Iterable[Call]) -> Iterator[tuple[int, float]]:
    """Yield what the kills broke off and when it was answered, if anybody ever asked again."""
    at = [kill.at for kill in kills]
    final: defaultdict[str, float] = defaultdict(lambda: _NEVER)
    calls = list(calls)
    for call in calls:
        if not is_transient(call):
            trace_id = call.request.trace_id
            final[trace_id] = min(final[trace_id], call.returned)
    for call in calls:
        end = final[call.request.trace_id]
        if isinstance(call.outcome, Unknown) and end != _NEVER:
            for number in range(bisect_left(at, call.invoked), bisect_right(at, call.returned)):
                yield number, end


def _ends_of_flights(
    kills: Sequence[Kill], flights: Iterable[tuple[datetime, datetime]]
) -> Iterator[tuple[int, datetime]]:
    times = [kill.time for kill in kills]
    for began, ended in flights:
        for number in range(bisect_right(times, began), bisect_left(times, ended)):
            yield number, ended


def _flights(books: Books) -> Iterator[tuple[datetime, datetime]]:
    """Read from when to when each operation, and each payment without one, was in flight."""
    operations = sa.select(payment_operations.c.started_at, payment_operations.c.ended_at)
    entries, of_payment = payment_audit_entries.c, payments.c
    direct = (
        sa.select(of_payment.created_at, sa.func.min(entries.at))
        .join_from(payments, payment_audit_entries, entries.payment_id == of_payment.id)
        .where(entries.from_status == "pending", entries.refund_id == "")
        .group_by(of_payment.id, of_payment.created_at)
    )
    yield from _ended(books.order_database, operations)
    yield from _ended(books.payment_database, direct)


def _ended(database: Database, query: sa.Select[Any]) -> list[tuple[datetime, datetime]]:
    rows = database.read(lambda connection: connection.execute(query).all())
    return [(began, ended) for began, ended in rows if ended is not None]

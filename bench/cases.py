"""The cases: what is called, on whom, how many at a time, and what is to be reached."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench import workloads
from bench.load import CALLS_PER_CONNECTION
from bench.subjects import Empty, Floor, Rest, Services, Subject
from bench.workloads import Workload

EMPTY: Final = "empty RPC"
INTERCEPTED: Final = "empty RPC, intercepted"
SERVICES: Final = "services"
WITH_REDIS: Final = "services, Redis"
ON_SQLITE: Final = "services, SQLite"
FLOOR: Final = "floor"
FLOOR_SQLITE: Final = "floor, SQLite"
REST: Final = "FastAPI"
ONE_WORKER: Final = "services, 1 worker"
TWO_WORKERS: Final = "services, 2 workers"
INSTANT_GATEWAY: Final = "services, gateway at once"
SLOW_GATEWAY: Final = "services, gateway after 50 ms"
_SLOW_SECONDS: Final = 0.05

SUBJECTS: Final[Mapping[str, Callable[[], Subject]]] = {
    EMPTY: lambda: Empty(EMPTY, intercepted=False),
    INTERCEPTED: lambda: Empty(INTERCEPTED, intercepted=True),
    SERVICES: lambda: Services(SERVICES),
    WITH_REDIS: lambda: Services(WITH_REDIS, redis=True),
    ON_SQLITE: lambda: Services(ON_SQLITE, sqlite=True),
    FLOOR: lambda: Floor(FLOOR),
    FLOOR_SQLITE: lambda: Floor(FLOOR_SQLITE, sqlite=True),
    REST: lambda: Rest(REST),
    # The payment service is not called: it stays as it is.
    ONE_WORKER: lambda: Services(ONE_WORKER, variables={"ORDER_SERVICE_WORKERS": "1"}),
    TWO_WORKERS: lambda: Services(TWO_WORKERS, variables={"ORDER_SERVICE_WORKERS": "2"}),
    INSTANT_GATEWAY: lambda: _answering_after(0, INSTANT_GATEWAY),
    SLOW_GATEWAY: lambda: _answering_after(_SLOW_SECONDS, SLOW_GATEWAY),
}


def _answering_after(seconds: float, name: str) -> Subject:
    return Services(name, variables={"PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS": str(seconds)})


# Where goals are measured: as many callers as keep a server busy and make nobody queue for long.
GOAL_CONCURRENCY: Final = 16
CONCURRENCIES: Final = (1, 16, 64, 256)
# As many as a service serves at a time.
_ALL_THREADS: Final = 64
# The kernel deals out connections, not calls: of many, each worker gets about as many.
_FEW_CALLS: Final = 4


@dataclass(frozen=True)
class Goal:
    """At most (or, for a rate, at least) `limit` times what `against` has in the same round.

    Of what `against` has, no more than `cap` counts.
    """

    of: str
    against: str
    limit: float
    measure: str = "cpu_us"
    concurrency: int = GOAL_CONCURRENCY
    cap: float = math.inf

    @property
    def is_at_least(self) -> bool:
        """Say whether more is better."""
        return self.measure == "calls_per_second"


@dataclass(frozen=True)
class Case:
    """One kind of call on several subjects, in turn. Without goals it shows figures."""

    name: str
    title: str
    workload: Workload
    subjects: Sequence[str]
    goals: Sequence[Goal] = ()
    concurrencies: Sequence[int] = CONCURRENCIES
    calls_per_connection: int = CALLS_PER_CONNECTION


CASES: Final = (
    Case(
        "empty",
        "An RPC that does nothing",
        workloads.Nothing(),
        (EMPTY, INTERCEPTED),
    ),
    Case(
        "create-order",
        "CreateOrder, PostgreSQL",
        workloads.CreateOrder(),
        (FLOOR, SERVICES, WITH_REDIS, REST),
        (Goal(SERVICES, FLOOR, 1.35), Goal(WITH_REDIS, REST, 0.5)),
    ),
    Case(
        "get-order",
        "GetOrder, PostgreSQL",
        workloads.GetOrder(),
        (FLOOR, SERVICES, REST),
        (Goal(SERVICES, FLOOR, 1.35), Goal(SERVICES, REST, 0.5)),
    ),
    Case(
        "list-orders",
        "ListOrders, first page of twenty, PostgreSQL",
        workloads.ListOrders(),
        (SERVICES, REST),
    ),
    Case(
        "list-orders-deep",
        "ListOrders, page 1,000 of twenty each, PostgreSQL",
        workloads.DeepPage(),
        (SERVICES, REST),
    ),
    Case(
        "process-payment",
        "ProcessPayment, PostgreSQL",
        workloads.ProcessPayment(),
        (FLOOR, SERVICES),
    ),
    Case(
        "pay-order",
        "PayOrder through both services, PostgreSQL",
        workloads.PayOrder(),
        (FLOOR, SERVICES),
        (Goal(SERVICES, FLOOR, 1.5),),
    ),
    Case(
        "slow-gateway",
        "ProcessPayment with a gateway that takes 50 ms, PostgreSQL",
        workloads.ProcessPayment(workloads.SLOW),
        (INSTANT_GATEWAY, SLOW_GATEWAY),
        (
            Goal(
                SLOW_GATEWAY,
                INSTANT_GATEWAY,
                0.85,
                "calls_per_second",
                _ALL_THREADS,
                cap=_ALL_THREADS / _SLOW_SECONDS,
            ),
        ),
        (_ALL_THREADS,),
    ),
    Case(
        "mark-order-paid",
        "MarkOrderPaid, PostgreSQL",
        workloads.MarkOrderPaid(),
        (SERVICES, REST),
    ),
    Case(
        "replay",
        "A replayed key",
        workloads.Replay(),
        (INTERCEPTED, WITH_REDIS, SERVICES, REST),
        (Goal(WITH_REDIS, INTERCEPTED, 2.0),),
    ),
    Case(
        "refused",
        "A refused transition, PostgreSQL",
        workloads.Refused(),
        (SERVICES,),
    ),
    Case(
        "create-order-sqlite",
        "CreateOrder, SQLite",
        workloads.CreateOrder(),
        (FLOOR_SQLITE, ON_SQLITE),
        (
            Goal(ON_SQLITE, FLOOR_SQLITE, 1.6),
            Goal(ON_SQLITE, FLOOR_SQLITE, 0.6, "calls_per_second", 32),
            Goal(ON_SQLITE, FLOOR_SQLITE, 2.0, "p99_ms", 32),
        ),
        (1, 16, 32, 64, 256),
    ),
    Case(
        "get-order-sqlite",
        "GetOrder, SQLite",
        workloads.GetOrder(),
        (FLOOR_SQLITE, ON_SQLITE),
    ),
    Case(
        "create-order-workers",
        "CreateOrder, one and two workers, PostgreSQL",
        workloads.CreateOrder(),
        (ONE_WORKER, TWO_WORKERS),
        concurrencies=(_ALL_THREADS,),
        calls_per_connection=_FEW_CALLS,
    ),
    Case(
        "get-order-workers",
        "GetOrder, one and two workers, PostgreSQL",
        workloads.GetOrder(),
        (ONE_WORKER, TWO_WORKERS),
        concurrencies=(_ALL_THREADS,),
        calls_per_connection=_FEW_CALLS,
    ),
)

"""The cases: what is called, on whom, how many at a time, and what is to be reached."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench import workloads
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
AT_ONCE: Final = "services, gateway at once"
SLOW_GATEWAY: Final = "services, gateway after 50 ms"

SUBJECTS: Final[Mapping[str, Callable[[], Subject]]] = {
    EMPTY: lambda: Empty(EMPTY, intercepted=False),
    INTERCEPTED: lambda: Empty(INTERCEPTED, intercepted=True),
    SERVICES: lambda: Services(SERVICES),
    WITH_REDIS: lambda: Services(WITH_REDIS, redis=True),
    ON_SQLITE: lambda: Services(ON_SQLITE, sqlite=True),
    FLOOR: lambda: Floor(FLOOR),
    FLOOR_SQLITE: lambda: Floor(FLOOR_SQLITE, sqlite=True),
    REST: lambda: Rest(REST),
    ONE_WORKER: lambda: _workers(ONE_WORKER, 1),
    TWO_WORKERS: lambda: _workers(TWO_WORKERS, 2),
    AT_ONCE: lambda: _gateway(AT_ONCE, seconds=0),
    SLOW_GATEWAY: lambda: _gateway(SLOW_GATEWAY, seconds=_GATEWAY_SECONDS),
}
_GATEWAY_SECONDS: Final = 0.05


def _workers(name: str, workers: int) -> Subject:
    services = ("ORDER", "PAYMENT")
    return Services(name, variables={f"{s}_SERVICE_WORKERS": str(workers) for s in services})


def _gateway(name: str, *, seconds: float) -> Subject:
    return Services(name, variables={"PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS": str(seconds)})


# Where goals are measured: as many callers as keep a server busy and make nobody queue for long.
GOAL_CONCURRENCY: Final = 16
CONCURRENCIES: Final = (1, 16, 64, 256)
# Whose payments all wait for the gateway at the same time.
_WAITING: Final = 64
# Enough connections that each worker gets some: the kernel deals out those, not calls.
_MANY: Final = (64, 256)


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

    def is_met(self, ratio: float) -> bool:
        """Say whether a ratio is good enough."""
        return ratio >= self.limit if self.is_at_least else ratio <= self.limit


@dataclass(frozen=True)
class Case:
    """One kind of call on several subjects, in turn."""

    name: str
    title: str
    workload: Workload
    subjects: Sequence[str]
    goals: Sequence[Goal] = ()
    concurrencies: Sequence[int] = CONCURRENCIES


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
        "ListOrders, thousandth page of twenty, PostgreSQL",
        workloads.DeepPage(),
        (SERVICES,),
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
        "ProcessPayment, a gateway that takes 50 ms, PostgreSQL",
        workloads.ProcessPayment(workloads.SLOW),
        (AT_ONCE, SLOW_GATEWAY),
        (
            Goal(
                SLOW_GATEWAY,
                AT_ONCE,
                0.85,
                "calls_per_second",
                _WAITING,
                cap=_WAITING / _GATEWAY_SECONDS,
            ),
        ),
        (_WAITING,),
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
        (1, 16, 32, 64),
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
        concurrencies=_MANY,
    ),
    Case(
        "get-order-workers",
        "GetOrder, one and two workers, PostgreSQL",
        workloads.GetOrder(),
        (ONE_WORKER, TWO_WORKERS),
        concurrencies=_MANY,
    ),
)

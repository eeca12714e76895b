"""make bench-growth: whether reading stays as quick with a thousand times as many orders.

Two services on PostgreSQL are called in turn, one that keeps a thousand orders and one that is
filled up from size to size: so what the machine does meanwhile meets both. A tenth of the orders
belongs to one customer, whose pages are listed.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from bench.bulk import PAGE_SIZE, SHARE, fill, order_id
from bench.others import GROWTH_GOAL
from bench.results import keep
from bench.run import machine
from bench.subjects import Services, Stage, send
from bench.workloads import (
    DEEP_PAGE,
    CreateOrder,
    DeepPage,
    GetOrder,
    ListOrders,
    Placed,
    Workload,
)

_SMALL: Final = 1_000
_SIZES: Final = (1_000, 100_000, 1_000_000, 10_000_000)
_READ_ORDERS: Final = 2_000


class _Shop:
    """A service and how many orders it has."""

    def __init__(self, name: str) -> None:
        self.subject = Services(name)
        self.orders = 0
        self._workloads: dict[str, Workload] = {}

    def grow(self, orders: int) -> None:
        """Have so many orders, and find out where the thousandth page begins."""
        fill(self.subject.databases["orders"], after=self.orders, up_to=orders)
        self.orders = orders
        self._workloads = {"GetOrder": GetOrder(), "first page": ListOrders()}
        if self.orders // SHARE > PAGE_SIZE * DEEP_PAGE:
            self._workloads[f"page {DEEP_PAGE:,}"] = DeepPage()
        self._workloads["CreateOrder"] = CreateOrder()

    def measure(self, what: str, calls: int, concurrency: int) -> float:
        """Return the median time of a call in milliseconds."""
        # Where there are too few for a thousand pages, the first one is what it is compared with.
        workload = self._workloads.get(what) or self._workloads["first page"]
        load = workload.load(self.subject, self._some_orders(), calls)
        return send(replace(load, concurrency=concurrency, warm_up=20))[0].p50 * 1e3

    @property
    def kinds(self) -> Sequence[str]:
        """What can be measured."""
        return list(self._workloads)

    def _some_orders(self) -> list[Placed]:
        """Choose orders from everywhere."""
        step = max(1, self.orders // _READ_ORDERS)
        return [Placed(order_id(n)) for n in range(1, self.orders + 1, step)]


def _compare(
    small: _Shop, large: _Shop, *, rounds: int, calls: int, concurrency: int
) -> Mapping[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in large.kinds}
    for _ in range(rounds):
        for kind, pairs in found.items():
            pairs.append(
                (
                    small.measure(kind, calls, concurrency),
                    large.measure(kind, calls, concurrency),
                )
            )
    return found


def main() -> int:
    """Grow, measure, and print how much longer everything takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(_SIZES), metavar="ORDERS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1_000, help="of each kind in a round")
    parser.add_argument("--at-a-time", type=int, default=1)
    options = parser.parse_args()
    print("| orders | call | with 1,000, ms | with so many, ms | times |")
    print("|--:|---|--:|--:|--:|")
    results = []
    small, large = _Shop("small"), _Shop("large")
    with Stage() as stage:
        try:
            for shop in (small, large):
                shop.subject.start(stage)
            small.grow(_SMALL)
            for size in sorted(options.sizes):
                large.grow(size)
                found = _compare(
                    small,
                    large,
                    rounds=options.rounds,
                    calls=options.calls,
                    concurrency=options.at_a_time,
                )
                for kind, pairs in found.items():
                    print(_line(size, kind, pairs), flush=True)
                    results.append({"orders": size, "call": kind, "ms": pairs})
        finally:
            for shop in (small, large):
                shop.subject.stop()
    keep("growth", {"machine": machine(), "options": vars(options), "results": results})
    return 0


def _line(size: int, kind: str, pairs: Sequence[tuple[float, float]]) -> str:
    def middle(of: Callable[[tuple[float, float]], float]) -> float:
        return statistics.median(map(of, pairs))

    times = middle(lambda pair: pair[1] / pair[0])
    is_met = "" if times <= GROWTH_GOAL else f" (goal ≤ {GROWTH_GOAL:g})"
    return (
        f"| {size:,} | {kind} | {middle(lambda pair: pair[0]):.2f}"
        f" | {middle(lambda pair: pair[1]):.2f} | {times:.2f}{is_met} |"
    )


if __name__ == "__main__":
    sys.exit(main())

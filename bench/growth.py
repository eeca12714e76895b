"""make bench-growth: whether reading stays as quick with a thousand times as many orders.

Two services on PostgreSQL are called in turn, one that keeps a thousand orders and one that is
filled up from size to size: so what the machine does meanwhile meets both. The orders are made in
bulk, with their items and without a history, which these calls do not read; a tenth of them belongs
to one customer, whose pages are listed.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import grpc
import psycopg

from bench.load import Load
from bench.run import RESULTS, machine
from bench.subjects import Services, Stage, Subject, send
from bench.workloads import CUSTOMER, HEADERS, CreateOrder, GetOrder, ListOrders, Placed, Workload
from checkout.order.v1 import order_service_pb2 as pb
from checkout.order.v1 import order_service_pb2_grpc
from tests.servers.postgres import plain_url

_SMALL: Final = 1_000
_SIZES: Final = (1_000, 100_000, 1_000_000, 10_000_000)
_GOAL: Final = 3.0
_SEEDED_AT_ONCE: Final = 500_000
_PAGE: Final = 20
_DEEP_PAGE: Final = 1_000
_READ_ORDERS: Final = 2_000

# Ids in the order of their numbers, all of them older than those that the service makes.
_ORDERS: Final = """
INSERT INTO orders (id, customer_id, status, currency_code, total_minor, refunded_minor, version,
    revision, created_at, updated_at, audit_count, audit_head)
SELECT 'ord_' || lpad(to_hex(n), 32, '0'),
    CASE WHEN n %% 10 = 0 THEN %(customer)s ELSE 'customer-' || n %% 10000 END,
    'created', 'EUR', 3390, 0, 1, 1, now(), now(), 1, decode(repeat('00', 32), 'hex')
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""
_ITEMS: Final = """
INSERT INTO order_items (order_id, line, sku, name, quantity, unit_price_minor)
SELECT 'ord_' || lpad(to_hex(n), 32, '0'), line, 'SKU-' || line, 'An item', line, 1130
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n, generate_series(1, 2) AS line
"""


class _DeepPage(ListOrders):
    """Reads the customer's thousandth page."""

    def __init__(self, token: str) -> None:
        self._token = token

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        return self._pages(subject, calls, self._token)


class _Shop:
    """A service and how many orders it has."""

    def __init__(self, name: str) -> None:
        self.subject = Services(name)
        self.orders = 0
        self._workloads: dict[str, Workload] = {}

    def grow(self, orders: int) -> None:
        """Have so many orders, and find out where the thousandth page begins."""
        with psycopg.connect(
            plain_url(self.subject.databases["orders"]), autocommit=True, connect_timeout=10
        ) as connection:
            while self.orders < orders:
                last = min(orders, self.orders + _SEEDED_AT_ONCE)
                span = {"first": self.orders + 1, "last": last}
                connection.execute(_ORDERS, {**span, "customer": CUSTOMER})
                connection.execute(_ITEMS, span)
                self.orders = last
            connection.execute("VACUUM ANALYZE")
        self._workloads = {"GetOrder": GetOrder(), "first page": ListOrders()}
        if self.orders // 10 > _PAGE * _DEEP_PAGE:
            self._workloads[f"page {_DEEP_PAGE:,}"] = _DeepPage(self._token_of_the_deep_page())
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
        return [Placed(f"ord_{n:032x}") for n in range(1, self.orders + 1, step)]

    def _token_of_the_deep_page(self) -> str:
        token = ""
        with grpc.insecure_channel(f"127.0.0.1:{self.subject.address.rpartition(':')[2]}") as line:
            orders = order_service_pb2_grpc.OrderServiceStub(line)
            for _ in range(_DEEP_PAGE - 1):
                request = pb.ListOrdersRequest(
                    customer_id=CUSTOMER, page_size=_PAGE, page_token=token
                )
                token = orders.ListOrders(request, metadata=HEADERS, timeout=10).next_page_token
        return token


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
    RESULTS.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(), "options": vars(options), "results": results}
    (RESULTS / "growth.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _line(size: int, kind: str, pairs: Sequence[tuple[float, float]]) -> str:
    def middle(of: Callable[[tuple[float, float]], float]) -> float:
        return statistics.median(map(of, pairs))

    times = middle(lambda pair: pair[1] / pair[0])
    is_met = "" if times <= _GOAL else f" (goal ≤ {_GOAL:g})"
    return (
        f"| {size:,} | {kind} | {middle(lambda pair: pair[0]):.2f}"
        f" | {middle(lambda pair: pair[1]):.2f} | {times:.2f}{is_met} |"
    )


if __name__ == "__main__":
    sys.exit(main())

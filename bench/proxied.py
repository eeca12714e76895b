"""make bench-proxied: Envoy before two processes of each service, one of each killed under load.

Two order services and two payment services share their databases and the gateway. Callers and the
order services reach them through Envoy alone (`deploy/envoy.yaml`), which gives each call to the
next process. While checkouts are made, one process of each service is killed with -9 and started
again some seconds later. At the end: how many calls each process served, how many checkouts failed
(none may), who sent something again, and what `verify` says of all orders. Exit code 1 if a
checkout failed or anything does not fit together.
"""

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from string import Template
from typing import Any, Final

import grpc

from bench.subjects import SECRET, Stage
from bench.workloads import HEADERS, VISA
from checkout.money.v1.money_pb2 import Money
from checkout.order.v1 import order_pb2, order_service_pb2_grpc
from checkout.order.v1 import order_service_pb2 as pb
from deploy.connections import CHANNEL_OPTIONS
from deploy.processes import MODULES, ROOT, ServiceProcess, free_ports, without_settings
from service_kit.ids import new_id
from tests.scrape import scrape_server

CONFIGURATION: Final = ROOT / "deploy" / "envoy.yaml"
ENVOY: Final = Path(sys.executable).with_name("envoy")
_PORTS: Final = (
    *("admin_port", "orders_port", "payments_port"),
    *("order_a", "order_b", "payment_a", "payment_b"),
)
_CALL_SECONDS: Final = 10.0
_ATTEMPTS_MAX: Final = 20
_PAUSE_SECONDS: Final = 0.1
_START_SECONDS: Final = 30.0
_LISTENING: Final = re.compile(r'"event":"listening".*?"metrics":"([^"]+)"')


@dataclass
class Counts:
    """What the callers have seen."""

    checkouts: int = 0
    failed: list[str] = field(default_factory=list)
    sent_again: int = 0
    changing: threading.Lock = field(default_factory=threading.Lock)


class Shopper:
    """Places, pays and reads one order after the other, each request again while that may help."""

    def __init__(self, address: str, counts: Counts) -> None:
        # One connection: which process answers is decided for each call, by Envoy.
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{address.rpartition(':')[2]}", CHANNEL_OPTIONS
        )
        self._orders = order_service_pb2_grpc.OrderServiceStub(self._channel)
        self._counts = counts

    def shop(self, is_over: threading.Event) -> None:
        """Make checkouts until it is over."""
        with self._channel:
            while not is_over.is_set():
                try:
                    self._check_out()
                except (grpc.RpcError, AssertionError) as error:
                    with self._counts.changing:
                        self._counts.failed.append(str(error).replace("\n", " ")[:200])
                with self._counts.changing:
                    self._counts.checkouts += 1

    def _check_out(self) -> None:
        item = pb.NewOrderItem(
            sku="MUG-1",
            name="Mug",
            quantity=2,
            unit_price=Money(currency_code="EUR", minor_units=1250),
        )
        place = pb.CreateOrderRequest(
            idempotency_key=new_id("key-"), customer_id="alice", items=[item]
        )
        order = self._send(self._orders.CreateOrder, place).order
        pay = pb.PayOrderRequest(
            idempotency_key=new_id("key-"), order_id=order.id, payment_token=VISA
        )
        self._send(self._orders.PayOrder, pay)
        read = self._send(self._orders.GetOrder, pb.GetOrderRequest(order_id=order.id))
        assert read.order.status == order_pb2.ORDER_STATUS_PAID, read

    def _send(self, rpc: Any, request: Any) -> Any:
        """Send a request, with its key again while the answer is one that passes."""
        for attempt in range(_ATTEMPTS_MAX):
            try:
                return rpc(request, metadata=HEADERS, timeout=_CALL_SECONDS)
            except grpc.RpcError as error:
                ended: Any = error
                is_last = attempt == _ATTEMPTS_MAX - 1
                if is_last or ended.code() not in {
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.ABORTED,
                }:
                    raise
                with self._counts.changing:
                    self._counts.sent_again += 1
                time.sleep(_PAUSE_SECONDS * (attempt + 1))
        raise AssertionError("unreachable")


@contextmanager
def envoy(folder: Path, ports: Mapping[str, int]) -> Iterator[None]:
    """Run Envoy over the configuration, with these ports filled in."""
    file = folder / "envoy.yaml"
    file.write_text(Template(CONFIGURATION.read_text()).substitute(ports))
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [ENVOY, "--config-path", file, "--concurrency", "1", "--log-level", "warning"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def statistics_of(admin_port: int, name: str) -> Mapping[str, int]:
    """Read the counters of Envoy whose names contain a text."""
    connection = HTTPConnection("127.0.0.1", admin_port, timeout=5)
    connection.request("GET", f"/stats?filter={name}")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    pairs = (line.partition(": ") for line in lines)
    return {key: int(value) for key, _, value in pairs if value.isdigit()}


def _wait_until_both_are_healthy(admin_port: int) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while True:
        try:
            found = statistics_of(admin_port, "membership_healthy")
        except OSError:
            found = {}
        if [found.get(f"cluster.{name}.membership_healthy") for name in ("orders", "payments")] == [
            2,
            2,
        ]:
            return
        if time.monotonic() > give_up_at:
            raise TimeoutError("Envoy does not find all four processes healthy")
        time.sleep(0.1)


def _calls_served(process: ServiceProcess) -> int:
    """Return how many calls a process has served, since its last start."""
    page = scrape_server(_LISTENING.findall(process.log())[-1])
    return int(sum(value for _, value in page.series("checkout_rpc_calls_total")))


def _process(module: str, port: int, stage: Stage, variables: Mapping[str, str]) -> ServiceProcess:
    """Make a process of a service, which has a folder of its own and shares everything else."""
    folder = stage.new_folder()
    own = {
        "CHECKOUT_DATA_DIR": str(folder),
        f"{module.upper()}_PORT": str(port),
        f"{module.upper()}_METRICS_PORT": "0",
    }
    return ServiceProcess(
        module,
        address=f"127.0.0.1:{port}",
        variables={
            **without_settings(os.environ),
            "no_grpc_proxy": "127.0.0.1",
            **variables,
            **own,
        },
        log=folder / "log",
    )


def main() -> int:
    """Run it all and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20, help="of load")
    parser.add_argument("--shoppers", type=int, default=8)
    options = parser.parse_args()
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    counts = Counts()
    with Stage() as stage, ExitStack() as stack:
        shared = {
            "CHECKOUT_SECRET_KEY": SECRET,
            "ORDER_SERVICE_DATABASE_URL": stage.database(),
            "PAYMENT_SERVICE_DATABASE_URL": stage.database(),
            "PAYMENT_SERVICE_GATEWAY_LEDGER": str(stage.folder / "gateway.db"),
            "ORDER_SERVICE_PAYMENT_TARGET": f"127.0.0.1:{ports['payments_port']}",
        }
        processes = {
            f"{module} {name}": _process(
                module, ports[f"{module.partition('_')[0]}_{name}"], stage, shared
            )
            for name in ("a", "b")
            for module in MODULES
        }
        for module in MODULES:
            processes[f"{module} a"].command("migrate")
        for process in processes.values():
            stack.callback(process.stop)
            process.start()
        for process in processes.values():
            process.wait_until_serving()
        stack.enter_context(envoy(stage.folder, ports))
        _wait_until_both_are_healthy(ports["admin_port"])
        _load(processes, ports, counts, options.shoppers, options.seconds)
        _wait_until_both_are_healthy(ports["admin_port"])
        verdict = _verdict(processes["order_service a"])
        _print(processes, ports, counts, verdict)
    return int(bool(counts.failed) or not verdict.startswith("0 violations"))


def _load(
    processes: Mapping[str, ServiceProcess],
    ports: Mapping[str, int],
    counts: Counts,
    shoppers: int,
    seconds: float,
) -> None:
    is_over = threading.Event()
    with ThreadPoolExecutor(shoppers) as pool:
        shopping = [
            pool.submit(Shopper(f"127.0.0.1:{ports['orders_port']}", counts).shop, is_over)
            for _ in range(shoppers)
        ]
        try:
            for name in ("order_service a", "payment_service b"):
                victim = processes[name]
                time.sleep(seconds / 4)
                victim.kill()
                print(f"{name} is killed", flush=True)
                time.sleep(seconds / 4)
                victim.start()
                victim.wait_until_serving()
        finally:
            is_over.set()
        for one in shopping:
            one.result()


def _verdict(process: ServiceProcess) -> str:
    """Return what `verify` says once everything is settled; what it said last if that does not."""
    verdict = ""
    for _ in range(30):
        verdict = process.command("verify").splitlines()[-1]
        if verdict.startswith("0 violations"):
            break
        time.sleep(1)
    return verdict


def _print(
    processes: Mapping[str, ServiceProcess], ports: Mapping[str, int], counts: Counts, verdict: str
) -> None:
    print("\n| process | calls served |\n|---|--:|")
    for name, process in processes.items():
        print(f"| {name} | {_calls_served(process):,} |")
    again = statistics_of(ports["admin_port"], "upstream_rq_retry$")
    print(f"\n{counts.checkouts:,} checkouts, {len(counts.failed)} failed")
    for problem in counts.failed[:5]:
        print(f"  {problem}")
    print(f"sent again: {sum(again.values())} by Envoy, {counts.sent_again} by callers")
    print(verdict)


if __name__ == "__main__":
    sys.exit(main())

"""make bench-happy-path: what a call costs now, beside what it cost in an earlier commit.

Both versions run as real processes over databases of their own, on the same machine at the same
time, and are called in turn: A B A B …, each round so many calls of each kind, one after the other.
Every answer is checked. The figures are the medians of the rounds: seconds that the caller waits,
and processor seconds of both services together, workers included.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from checkout.money.v1.money_pb2 import Money
from checkout.order.v1 import order_pb2, order_service_pb2, order_service_pb2_grpc
from deploy.connections import CHANNEL_OPTIONS
from deploy.processes import (
    ROOT,
    free_ports,
    without_settings,
)
from service_kit.ids import new_id

VISA: Final = "tok_visa"
# A backend: one customer may not call as often.
CALLER: Final = (("x-actor-role", "service"), ("x-actor-id", "shop-backend"))
MODULES: Final = ("payment_service", "order_service")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START_SECONDS: Final = 30.0

Figures = dict[str, tuple[float, float]]


class Version:
    """Both services of one source tree, running."""

    def __init__(self, name: str, source: Path, folder: Path) -> None:
        self.name = name
        self.rounds: dict[str, list[tuple[float, float]]] = {}
        order_port, payment_port = free_ports(2)
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", module, "serve"],
                cwd=source,
                env=_environment(source, folder, order_port, payment_port),
                stdout=subprocess.DEVNULL,
            )
            for module in MODULES
        ]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{order_port}", options=CHANNEL_OPTIONS)
        self._orders = order_service_pb2_grpc.OrderServiceStub(self._channel)
        self._placed: list[str] = []

    def stop(self) -> None:
        """End both."""
        self._channel.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(30)

    def wait_until_ready(self) -> None:
        """Pay an order, which needs both."""
        give_up_at = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._place()
                self._pay()
            except grpc.RpcError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.1)
            else:
                return

    def measure(self, calls: int) -> None:
        """Make so many calls of each kind, and note what one of them cost."""
        steps: Mapping[str, Callable[[], object]] = {
            "CreateOrder": self._place,
            "GetOrder": self._read,
            "PayOrder": self._pay,
        }
        for rpc, step in steps.items():
            processor, clock = self._processor_seconds(), time.perf_counter()
            for _ in range(calls):
                step()
            seconds = (time.perf_counter() - clock) / calls
            used = (self._processor_seconds() - processor) / calls
            self.rounds.setdefault(rpc, []).append((seconds, used))

    def medians(self) -> Figures:
        """Return, for each kind, the waiting time and the processor time of a call, in seconds."""
        return {
            rpc: (
                statistics.median(seconds for seconds, _ in rounds),
                statistics.median(used for _, used in rounds),
            )
            for rpc, rounds in self.rounds.items()
        }

    def _processor_seconds(self) -> float:
        return sum(map(processor_seconds, (process.pid for process in self._processes)))

    def _place(self) -> None:
        request = order_service_pb2.CreateOrderRequest(
            idempotency_key=new_id("key-"),
            customer_id="alice",
            items=[
                order_service_pb2.NewOrderItem(
                    sku="MUG-1",
                    name="Mug",
                    quantity=2,
                    unit_price=Money(currency_code="EUR", minor_units=1250),
                )
            ],
        )
        self._placed.append(self._call(self._orders.CreateOrder, request, "CREATED").id)

    def _read(self) -> None:
        request = order_service_pb2.GetOrderRequest(order_id=self._placed[-1])
        self._call(self._orders.GetOrder, request, "CREATED")

    def _pay(self) -> None:
        request = order_service_pb2.PayOrderRequest(
            idempotency_key=new_id("key-"), order_id=self._placed.pop(), payment_token=VISA
        )
        self._call(self._orders.PayOrder, request, "PAID")

    @staticmethod
    def _call(rpc: Any, request: Any, status: str) -> order_pb2.Order:
        order: order_pb2.Order = rpc(request, metadata=CALLER, timeout=20).order
        came = order_pb2.OrderStatus.Name(order.status)
        if came != f"ORDER_STATUS_{status}":
            raise AssertionError(f"expected {status}, came {came}")
        return order


def _environment(source: Path, folder: Path, order_port: int, payment_port: int) -> dict[str, str]:
    # Told by both versions, unless one is too old to know the settings: it would refuse them.
    tells_metrics = (source / "service_kit" / "metrics").is_dir()
    metrics = ("ORDER_SERVICE_METRICS_PORT", "PAYMENT_SERVICE_METRICS_PORT")
    return {
        **without_settings(os.environ),
        "PYTHONPATH": os.pathsep.join([str(source), str(source / "generated")]),
        "CHECKOUT_DATA_DIR": str(folder),
        "ORDER_SERVICE_PORT": str(order_port),
        "ORDER_SERVICE_PAYMENT_TARGET": f"127.0.0.1:{payment_port}",
        "PAYMENT_SERVICE_PORT": str(payment_port),
        **(dict.fromkeys(metrics, "0") if tells_metrics else {}),
    }


def processor_seconds(pid: int) -> float:
    """Return how much processor time a process has used, in seconds."""
    # After the name, which may contain anything: fields 14 and 15 of proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def _source_of(commit: str) -> Iterator[Path]:
    """Unpack a commit of this repository."""
    with tempfile.TemporaryDirectory(prefix="checkout-") as folder:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        yield Path(folder)


def _show(before: Version, now: Version) -> None:
    print(f"{'':12} {before.name:>12} {now.name:>12}   ratio")
    for rpc, old in before.medians().items():
        for what, then, today in zip(("waits", "CPU"), old, now.medians()[rpc], strict=True):
            name = f"{rpc}, {what}"
            print(f"{name:18} {then * 1e3:9.3f} ms {today * 1e3:9.3f} ms   {today / then:.2f}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--against", required=True, metavar="COMMIT")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--calls", type=int, default=200, help="of each kind, in each round")
    options = parser.parse_args()
    with ExitStack() as stack:
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="checkout-")))
            for _ in range(2)
        ]
        source = stack.enter_context(_source_of(options.against))
        versions = [
            Version(options.against[:12], source, folders[0]),
            Version("now", ROOT, folders[1]),
        ]
        for version in versions:
            stack.callback(version.stop)
        for version in versions:
            version.wait_until_ready()
            version.measure(50)
            version.rounds.clear()
        for _ in range(options.rounds):
            for version in versions:
                version.measure(options.calls)
        _show(*versions)
    return 0


if __name__ == "__main__":
    sys.exit(main())

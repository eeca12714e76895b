"""make bench-startup: how long a service takes until it serves, beside what only imports.

In turns: the order service over PostgreSQL whose tables are there already, and a process that
imports grpc, SQLAlchemy and the driver and ends. Both are fresh interpreters.
"""

import argparse
import statistics
import subprocess
import sys
import time
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.others import STARTUP_GOAL
from bench.results import keep
from bench.run import machine
from bench.subjects import Services, Stage
from deploy.processes import ROOT

_IMPORTS: Final = "import grpc, sqlalchemy, sqlalchemy.dialects.postgresql.psycopg, psycopg"


class _Starting(Services):
    """The order service alone, started again and again."""

    def prepare(self, stage: Stage) -> None:
        """Make its database and choose its ports."""
        self._variables |= self._prepared(stage)

    def seconds(self, stage: Stage) -> float:
        """Start it, and say how long it took until its health was good."""
        began = time.perf_counter()
        self._run(stage, "order_service", "serve", **self._variables)
        while not self._serves():
            time.sleep(0.001)
        took = time.perf_counter() - began
        self.stop()
        return took

    def _serves(self) -> bool:
        with grpc.insecure_channel(f"127.0.0.1:{self.address.rpartition(':')[2]}") as channel:
            try:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> int:
    """Measure both in turns and print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    serving, importing = [], []
    subject = _Starting("starting")
    with Stage() as stage:
        subject.prepare(stage)
        for _ in range(options.rounds + 1):
            serving.append(subject.seconds(stage))
            importing.append(_import_seconds())
    # The first start reads everything from the disk.
    del serving[0], importing[0]
    ratios = [a / b for a, b in zip(serving, importing, strict=True)]
    print("| what | ms |\n|---|--:|")
    print(f"| until the order service serves | {_told(serving, 1e3)} |")
    print(f"| a process that only imports | {_told(importing, 1e3)} |")
    print(f"| ratio (goal ≤ {STARTUP_GOAL:g}) | {_told(ratios, 1)} |")
    keep("startup", {"machine": machine(), "serving": serving, "importing": importing})
    return 0


def _import_seconds() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", _IMPORTS], cwd=ROOT, check=True)
    return time.perf_counter() - began


def _told(values: list[float], times: float) -> str:
    digits = 2 if times == 1 else 0
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle * times:.{digits}f} [{low * times:.{digits}f} to {high * times:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())

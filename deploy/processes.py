"""The services as real processes: started, watched by their health, ended by their ids."""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy import credentials
from deploy.connections import Connections, Plain, Secured

ROOT: Final = Path(__file__).resolve().parent.parent
MODULES: Final = ("order_service", "payment_service")
START_SECONDS: Final = 30.0
# Longer than a service may drain by default.
STOP_SECONDS: Final = 15.0

_SETTINGS_PREFIXES: Final = ("ORDER_SERVICE_", "PAYMENT_SERVICE_", "CHECKOUT_")
_POLL_SECONDS: Final = 0.05
_LOG_LINES: Final = 20


class NotServing(Exception):
    """A service ended, or did not tell in time that it serves. `log` is what it wrote last."""

    def __init__(self, *, module: str, problem: str, log: str) -> None:
        super().__init__(f"{module} {problem}")
        self.module = module
        self.log = log


class ServiceProcess:
    """`python -m MODULE serve` at a fixed address; it may be ended and started again.

    `variables` is its whole environment. Its output is added to the file `log`, or goes where
    this process's output goes. `metrics` is where Prometheus reads, if that is known.
    `connections` reaches it.
    """

    def __init__(
        self,
        module: str,
        *,
        address: str,
        variables: Mapping[str, str],
        log: Path | None = None,
        metrics: str = "",
        connections: Connections | None = None,
    ) -> None:
        self.module = module
        self.address = address
        self.metrics = metrics
        self._connections = connections or Plain()
        self._variables = dict(variables)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._is_asked_to_end = False

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        return self._started.pid

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.module} was never started"
        return self._process

    def start(self) -> None:
        """Start it, without waiting for anything."""
        self._is_asked_to_end = False
        # Interrupted here, a process would run that nobody knows of and nobody ends.
        with _undisturbed():
            if self._log is None:
                self._process = self._open(None)
                return
            with self._log.open("ab") as log:
                self._process = self._open(log)

    def _open(self, log: BinaryIO | None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", self.module, "serve"],
            cwd=ROOT,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=None if log is None else subprocess.STDOUT,
            # Ctrl-C in a terminal reaches whoever started the pair, and ends both in order.
            process_group=0,
        )

    def command(self, *arguments: str) -> str:
        """Run another command of the service with the same settings, and return its output."""
        done = subprocess.run(
            [sys.executable, "-m", self.module, *arguments],
            cwd=ROOT,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        return done.stdout.strip()

    def wait_until_serving(self, timeout_seconds: float = START_SECONDS) -> None:
        """Wait for its health to be SERVING. Raises NotServing."""
        deadline = time.monotonic() + timeout_seconds
        with self._connections.channel(self.address) as channel:
            # The types of this package do not name its methods.
            stub: Any = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline:
                if (code := self._started.poll()) is not None:
                    raise self._not_serving(f"ended with exit code {code}")
                if _is_serving(stub.Check):
                    return
                time.sleep(_POLL_SECONDS)
        raise self._not_serving(f"is not SERVING after {timeout_seconds:.0f} s")

    def _not_serving(self, problem: str) -> NotServing:
        return NotServing(module=self.module, problem=problem, log=self.log_tail())

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Wait for its end and return its exit code. Raises subprocess.TimeoutExpired."""
        return self._started.wait(timeout_seconds)

    def terminate(self) -> None:
        """Ask it once to finish its calls and end; nothing happens to one that has ended."""
        if self._process is not None and not self._is_asked_to_end:
            # A second signal could meet a process that no longer handles it, just before its end.
            self._is_asked_to_end = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> int | None:
        """End it and return its exit code; None if it was never started."""
        if self._process is None:
            return None
        self.terminate()
        try:
            return self.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it as a crash would, with calls under way and nothing cleaned up."""
        self._started.kill()
        return self.wait()

    def log(self) -> str:
        """Return its output so far, if it goes to a file."""
        if self._log is None or not self._log.exists():
            return ""
        return self._log.read_text("utf-8", errors="replace")

    def log_tail(self, lines: int = _LOG_LINES) -> str:
        """Return the last lines of its output, if it goes to a file."""
        return "\n".join(self.log().splitlines()[-lines:])


class Pair:
    """Both services over one data folder, the order service calling the payment service."""

    def __init__(
        self, folder: Path, variables: Mapping[str, str] | None = None, *, secured: bool = False
    ) -> None:
        """Choose their ports; `variables` are settings for both, besides the folder's.

        Of this process's own environment they get all that is not a setting of theirs. Secured,
        they get new credentials, in the folder too.
        """
        self.connections: Connections = Plain()
        if secured:
            credentials.make(folder / "credentials")
            self.connections = Secured(folder / "credentials")
        order_port, payment_port = free_ports(2)
        environment = {
            **without_settings(os.environ),
            # The order service's calls to its neighbour must not take a proxy either.
            "no_grpc_proxy": "127.0.0.1",
            "CHECKOUT_DATA_DIR": str(folder),
            "ORDER_SERVICE_PORT": str(order_port),
            "ORDER_SERVICE_PAYMENT_TARGET": f"127.0.0.1:{payment_port}",
            "PAYMENT_SERVICE_PORT": str(payment_port),
            # Any free one: the log tells which.
            "ORDER_SERVICE_METRICS_PORT": "0",
            "PAYMENT_SERVICE_METRICS_PORT": "0",
            **self.connections.variables,
            **(variables or {}),
        }
        self.ledger = folder / "gateway.db"
        self.order, self.payment = (
            ServiceProcess(
                module,
                address=f"127.0.0.1:{port}",
                variables=environment,
                log=folder / f"{module}.log",
                connections=self.connections,
            )
            for module, port in zip(MODULES, (order_port, payment_port), strict=True)
        )

    @property
    def processes(self) -> tuple[ServiceProcess, ServiceProcess]:
        """Both of them."""
        return self.order, self.payment

    def start(self) -> None:
        """Start both at once and wait until both serve. Raises NotServing."""
        for process in self.processes:
            process.start()
        for process in self.processes:
            process.wait_until_serving()

    def stop(self) -> list[int | None]:
        """End both at once and return their exit codes."""
        for process in self.processes:
            process.terminate()
        return [process.stop() for process in self.processes]


@contextmanager
def running(variables: Mapping[str, str] | None = None, *, secured: bool = False) -> Iterator[Pair]:
    """Run both services over a folder that goes when they end. Raises NotServing."""
    with tempfile.TemporaryDirectory(prefix="checkout-") as folder:
        pair = Pair(Path(folder), variables, secured=secured)
        try:
            pair.start()
            yield pair
        finally:
            pair.stop()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back the signals that raise in the main thread until the block is over."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda caught, _frame: received.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for caught in received:
        signal.raise_signal(caught)


def without_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """Copy an environment without any setting of the services."""
    return {
        name: value
        for name, value in variables.items()
        if not name.upper().startswith(_SETTINGS_PREFIXES)
    }


def free_ports(count: int) -> list[int]:
    """Find ports of loopback that nobody listens on.

    They lie below those that systems give to outgoing connections, so that none of the many
    that are opened meanwhile takes one.
    """
    # nosemgrep: guessable-randomness - it only keeps apart those who look at the same time
    candidates = random.sample(range(20_000, 32_000), 1_000)
    return list(itertools.islice(filter(_is_free, candidates), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _is_serving(check: Any) -> bool:
    try:
        reply = check(health_pb2.HealthCheckRequest(), timeout=1)
    except grpc.RpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

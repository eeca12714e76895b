"""Services as processes that are killed and come back fast.

Each service has one zygote that has its modules loaded and forks a process per start (see
`tests.faults.zygote`); what it becomes is the service itself, over real sockets and databases.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.processes import CHANNEL_OPTIONS, MODULES, without_settings
from tests.faults.figures import ROOT
from tests.faults.kill_points import Orders

START_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.002
_LOG_CHARACTERS: Final = 4000


class Zygote:
    """The parent of all processes of one service. Any thread may use it."""

    def __init__(self, module: str) -> None:
        self.module = module
        # What is imported is what stands in this folder, whoever installed what elsewhere.
        path = os.pathsep.join([str(ROOT), str(ROOT / "generated")])
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote", module],
            cwd=ROOT,
            env={**without_settings(os.environ), "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def start(self, variables: Mapping[str, str], *, log: Path, orders: Path) -> int:
        """Start a process with this environment and return its id."""
        files = {"log": str(log), "orders": str(orders)}
        pid: int = self._ask({"do": "start", "variables": dict(variables), **files})
        return pid

    def ended(self, pid: int) -> int | None:
        """Return how a process ended: a negative signal or an exit code; None if it runs."""
        status: int | None = self._ask({"do": "ended", "pid": pid})
        return status

    def close(self) -> None:
        """End it, and with it all processes that still run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock, self._process.stdin, self._process.stdout:
            self._process.stdin.close()
            self._process.wait()

    def _ask(self, command: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(f"{json.dumps(command)}\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


@contextmanager
def loaded_zygotes() -> Iterator[dict[str, Zygote]]:
    """Load both services once."""
    with ExitStack() as stack:
        started = {module: Zygote(module) for module in MODULES}
        for zygote in started.values():
            stack.callback(zygote.close)
        yield started


class Service:
    """A service at an address of its own, as a process that can be killed.

    `files` is how its files begin: its log, and the orders of where to die that are sent to it
    by `tests.faults.kill_points`.
    """

    def __init__(
        self, zygote: Zygote, *, address: str, variables: Mapping[str, str], files: Path
    ) -> None:
        self.module = zygote.module
        self.orders = Orders(files.with_suffix(".orders"))
        self._zygote = zygote
        self._variables = dict(variables)
        self._log = files.with_suffix(".log")
        self._pid = 0
        self._status: int | None = None
        self.channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        health: Any = health_pb2_grpc.HealthStub(self.channel)
        self._check_health = health.Check

    def start(self) -> None:
        """Start a process, without waiting for anything."""
        self._pid = self._zygote.start(self._variables, log=self._log, orders=self.orders.path)
        self._status = None

    @property
    def status(self) -> int | None:
        """How the process ended: a negative signal or an exit code; None if it runs."""
        if self._status is None:
            # Asked once only: of a child that has been waited for nothing is left.
            self._status = self._zygote.ended(self._pid)
        return self._status

    def wait_until_serving(self) -> None:
        """Wait for its health to be SERVING."""
        give_up_at = time.monotonic() + START_SECONDS
        while not self.is_serving():
            code = self.status
            assert code is None, f"{self.module} ended with {code}:\n{self.log_tail()}"
            assert time.monotonic() < give_up_at, f"{self.module} is not SERVING"
            time.sleep(_POLL_SECONDS)

    def is_serving(self) -> bool:
        """Ask its health."""
        request = health_pb2.HealthCheckRequest()
        try:
            reply = self._check_health(request, timeout=1)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def wait_for_end(self, seconds: float) -> int:
        """Wait until the process has ended, and say how: a negative signal or an exit code."""
        give_up_at = time.monotonic() + seconds
        while (status := self.status) is None:
            assert time.monotonic() < give_up_at, f"{self.module} lives:\n{self.log_tail()}"
            time.sleep(_POLL_SECONDS)
        return status

    def kill(self) -> None:
        """End the process as a crash would. It must not have ended by itself before."""
        assert self.end() == -signal.SIGKILL, self.log_tail()

    def end(self) -> int:
        """End the process as a crash would, if it runs, and say how it has ended."""
        if self._status is None:
            # One that has ended by itself is still there to be asked, and feels nothing.
            os.kill(self._pid, signal.SIGKILL)
        return self.wait_for_end(START_SECONDS)

    def wait_until_stopped_at(self, point: str, seconds: float) -> None:
        """Wait until the process has stopped where it was told to."""
        give_up_at = time.monotonic() + seconds
        while self.orders.obeyed_at != point:
            assert time.monotonic() < give_up_at, f"never reached {point}:\n{self.log_tail()}"
            time.sleep(_POLL_SECONDS)

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        os.kill(self._pid, signal.SIGCONT)

    def limit_files(self, size: int) -> None:
        """Let it write no file behind so many bytes: as if the disk were full there."""
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def limit_no_files(self) -> None:
        """Give it all the room that there is."""
        self.limit_files(resource.RLIM_INFINITY)

    def close(self) -> None:
        """Have no process any more."""
        self.channel.close()
        if self._pid:
            self.end()

    def has_logged(self, text: str) -> bool:
        """Say whether the text stands in its log."""
        return text in self._log.read_text("utf-8", errors="replace")

    def log_tail(self) -> str:
        """Return the end of what it has logged."""
        return self._log.read_text("utf-8", errors="replace")[-_LOG_CHARACTERS:]

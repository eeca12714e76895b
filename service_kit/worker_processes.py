"""Several processes that serve on one port: started, replaced and ended by one that does not."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from service_kit.logging import get_logger
from service_kit.server import Runs, reserved

_SERVING: Final = b"."
_PAUSE_SECONDS: Final = 0.5
_PAUSE_SECONDS_MAX: Final = 30.0
# Whoever lived for so long did not die of what its predecessor died of.
_HEALTHY_SECONDS: Final = 60.0
# What comes after the drain: cancelled calls leave, and connections are closed.
_END_SECONDS: Final = 10.0


class WorkerNotStarted(Exception):
    """A worker ended before it served; it has said why."""

    def __init__(self, *, number: int, exit_code: int) -> None:
        super().__init__(f"worker {number} did not start (exit code {exit_code})")
        self.number = number
        self.exit_code = exit_code


@dataclass(frozen=True)
class Membership:
    """What a worker is told: its number, the port of all, and its end of the line to the parent.

    Over the line it says that it serves. The line breaks when the parent wants it to end, and when
    the parent itself has ended, however that came about.
    """

    number: int
    port: int
    line: int

    @classmethod
    def parse(cls, text: str) -> "Membership":
        """Read what `str` writes."""
        return cls(*map(int, text.split(":")))

    def __str__(self) -> str:
        """Write it for a command line."""
        return f"{self.number}:{self.port}:{self.line}"


class Member:
    """Runs a worker's app for as long as the line holds."""

    def __init__(self, app: Runs, membership: Membership, *, drain_seconds: float) -> None:
        self._app = app
        self._line = socket.socket(fileno=membership.line)
        self._end_seconds = drain_seconds + _END_SECONDS

    def start(self) -> None:
        """Start the app, and say that it serves."""
        self._app.start()
        with suppress(OSError):  # nobody listens: the line is broken, as will be noticed
            self._line.sendall(_SERVING)

    def stop(self) -> None:
        """Stop the app."""
        self._app.stop()

    def wait_for_end(self) -> None:
        """Return when the line breaks. Whoever has not ended some time later is ended."""
        with suppress(OSError):
            self._line.recv(1)
        # If the parent is gone, nobody else does.
        late = threading.Timer(self._end_seconds, os._exit, (1,))
        late.daemon = True
        late.start()


class WorkerProcesses:
    """Keeps `count` processes serving on one port.

    `command` starts one; it gets its membership as a further argument. Each is a fresh
    interpreter: gRPC does not survive a fork. The first starts alone, so that what is wrong with
    all of them is told once.
    """

    def __init__(
        self, command: Sequence[str], *, count: int, host: str, port: int, drain_seconds: float
    ) -> None:
        self._command = command
        self._count = count
        self._host = host
        self._port = port
        self._end_seconds = drain_seconds + _END_SECONDS
        self._log = get_logger()
        self._stopping = threading.Event()
        self._changing = threading.Lock()
        self._reserved: socket.socket | None = None
        self._workers: dict[int, _Worker] = {}
        self.exit_codes: list[int] = []

    def start(self) -> None:
        """Reserve the port and wait until all serve. Raises CannotListen, WorkerNotStarted."""
        self._reserved = reserved(self._host, self._port)
        self._port = self._reserved.getsockname()[1]
        for numbers in (range(1), range(1, self._count)):
            for number in numbers:
                self._start(number)
            for number in numbers:
                self._workers[number].wait_until_serving()
        for number in self._workers:
            threading.Thread(target=self._keep, args=(number,), daemon=True).start()
        pids = [worker.pid for worker in self._workers.values()]
        self._log.info("processes.serving", port=self._port, pid=os.getpid(), workers=pids)

    def stop(self) -> None:
        """Let all drain at once, and end those that are not done in time."""
        with self._changing:
            self._stopping.set()
        # Those that wait for a successor have been told of.
        workers = [worker for worker in self._workers.values() if worker.exit_code is None]
        for worker in workers:
            worker.hang_up()
        give_up_at = time.monotonic() + self._end_seconds
        self.exit_codes = [worker.end(give_up_at - time.monotonic()) for worker in workers]
        if self._reserved:
            self._reserved.close()

    def _start(self, number: int) -> None:
        self._workers[number] = _Worker(self._command, number=number, port=self._port)

    def _keep(self, number: int) -> None:
        """Replace a worker whenever it ends, until all are to end."""
        pause, began = _PAUSE_SECONDS, time.monotonic()
        while True:
            worker = self._workers[number]
            exit_code = worker.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > _HEALTHY_SECONDS:
                pause = _PAUSE_SECONDS
            facts = {"worker": number, "pid": worker.pid, "exit_code": exit_code}
            self._log.error("process.ended", **facts, again_after_seconds=pause)
            worker.hang_up()
            if self._stopping.wait(pause):
                return
            pause, began = min(2 * pause, _PAUSE_SECONDS_MAX), time.monotonic()
            # A machine that has no process left may have one in the next round.
            with self._changing, suppress(OSError):
                if self._stopping.is_set():
                    return
                self._start(number)


class _Worker:
    """One process, and the parent's end of the line to it."""

    def __init__(self, command: Sequence[str], *, number: int, port: int) -> None:
        self._number = number
        self._line, theirs = socket.socketpair()
        with theirs:
            membership = Membership(number=number, port=port, line=theirs.fileno())
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, *command, str(membership)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Ctrl-C in a terminal reaches the parent, which ends all in order.
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def wait_until_serving(self) -> None:
        if not self._line.recv(1):
            raise WorkerNotStarted(number=self._number, exit_code=self.wait())

    def wait(self) -> int:
        return self._process.wait()

    def hang_up(self) -> None:
        self._line.close()

    def end(self, seconds: float) -> int:
        try:
            return self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

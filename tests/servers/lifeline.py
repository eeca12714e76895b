"""Keep a server alive exactly as long as the process that needs it.

Run as a program, this module starts one server, prints the server's pid and waits. When its owner
is gone, however it went, or when it is told to end by SIGTERM, it stops the server and removes the
server's folder. So a killed test run leaves neither a process nor a file behind. Told by SIGUSR1,
it breaks the server off and starts it again in the same folder. It imports nothing of the project,
and is started without the project on its path.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

_POLL_SECONDS = 0.2
_STOP_SECONDS = 10.0
# Less than a pipe holds, so that writing it never waits for a reader.
_LOG_TAIL = 4000


@dataclass(frozen=True, kw_only=True)
class Server:
    """What to start: its folder is where it runs and logs, and is removed after it."""

    argv: list[str]
    folder: str
    owner_pid: int
    stop_signal: int
    user: int | None
    """The uid it runs as; None means the caller's."""
    break_off_signal: int = signal.SIGKILL
    """What ends it at once, without tidying up, when it is restarted."""


class Lifeline:
    """A started server, as seen from the process that asked for it."""

    def __init__(self, server: Server) -> None:
        # -I: neither the environment nor the current folder decides what this process imports.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, json.dumps(asdict(server))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._stdout = self._process.stdout
        first_line = self._stdout.readline()
        if not first_line:
            self.stop()
            message = f"could not start {server.argv[0]}"
            raise RuntimeError(message)
        self.server_pid = int(first_line)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        """Whether the server is gone and its folder removed."""
        return self._process.poll() is not None

    def stop(self) -> str:
        """Stop the server, wait until its folder is gone, and return the end of its log."""
        if not self.ended():
            self._process.terminate()
        return self._last_words()

    def restart_server(self) -> None:
        """Break the server off and start it again; it may not answer yet."""
        os.kill(self.pid, signal.SIGUSR1)
        self.server_pid = int(self._stdout.readline())

    def kill_server(self) -> None:
        """Kill the server, giving it no chance to write anything."""
        if not self.ended():
            os.kill(self.server_pid, signal.SIGKILL)
        self._last_words()

    def _last_words(self) -> str:
        self._process.wait(timeout=2 * _STOP_SECONDS)
        if self._stdout.closed:
            return ""
        with self._stdout:
            return self._stdout.read()


def stop_from_afar(pid: int, folder: Path) -> None:
    """Stop a server that a sibling process started, and wait until its folder is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 2 * _STOP_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start(server: Server) -> subprocess.Popen[bytes]:
    folder = Path(server.folder)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            server.argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=server.user,
            group=server.user,
            extra_groups=None if server.user is None else [],
        )
    sys.stdout.write(f"{process.pid}\n")
    sys.stdout.flush()
    return process


def _run(server: Server) -> None:
    give_up_at: float | None = None
    is_restarting = False

    def stop_server(signum: int = 0, frame: FrameType | None = None) -> None:
        nonlocal give_up_at
        process.send_signal(server.stop_signal)
        give_up_at = time.monotonic() + _STOP_SECONDS

    def restart_server(signum: int, frame: FrameType | None) -> None:
        nonlocal is_restarting
        is_restarting = True
        process.send_signal(server.break_off_signal)

    process = _start(server)
    signal.signal(signal.SIGTERM, stop_server)
    signal.signal(signal.SIGUSR1, restart_server)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_POLL_SECONDS)
            if not is_restarting or give_up_at is not None:
                break
            is_restarting = False
            process = _start(server)
        if give_up_at is None and not _alive(server.owner_pid):
            stop_server()
        elif give_up_at is not None and time.monotonic() > give_up_at:
            process.kill()
    folder = Path(server.folder)
    last_words = (folder / "log").read_text(errors="replace")[-_LOG_TAIL:]
    shutil.rmtree(folder, ignore_errors=True)
    # The owner may be gone, and nobody left to read this.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(last_words)
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _run(Server(**json.loads(sys.argv[1])))

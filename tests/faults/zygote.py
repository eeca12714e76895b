"""A process that has imported a service and becomes one, again and again, in no time.

Run as a program with the name of a service, it reads commands from its standard input, one JSON
object to a line, and answers each with one: `start` forks a child that runs the service as
`python -m SERVICE serve` does, `ended` asks for a child's exit status. It creates no grpc object,
which no fork survives. When its standard input ends it kills its children; when it is killed
itself, they notice and end.
"""

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

_SERVE: Final = ["serve"]


def main(module: str) -> None:
    """Serve commands until the input ends."""
    program = importlib.import_module(f"{module}.__main__").PROGRAM
    # Imported here too, for the children that are asked to die at a named point.
    from tests.faults import kill_points  # noqa: PLC0415

    children: set[int] = set()
    # Nobody ever writes into it: a child that reads its end has lost this process.
    alive = os.pipe()
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        if command["do"] == "start":
            pid = os.fork()
            if pid == 0:
                _become(program, kill_points, command, alive)
            children.add(pid)
            _answer(pid)
        else:
            _answer(_status(command["pid"], children))
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _answer(value: int | None) -> None:
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


def _status(pid: int, children: set[int]) -> int | None:
    """Return how a child ended, as subprocess has it: the negative signal or the exit code."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        return None
    children.discard(pid)
    return os.waitstatus_to_exitcode(status)


def _become(
    program: Any, kill_points: Any, command: Mapping[str, Any], alive: tuple[int, int]
) -> NoReturn:
    """Be the service until it ends, and never return into the loop of the parent."""
    code = 1
    try:
        reader, writer = alive
        os.close(writer)
        threading.Thread(target=_end_with_parent, args=(reader,), daemon=True).start()
        _redirect(command["log"])
        os.environ.clear()
        os.environ.update(command["variables"])
        if command["orders"]:
            kill_points.install(Path(command["orders"]))
        code = program.run(_SERVE)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(log: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _end_with_parent(reader: int) -> None:
    os.read(reader, 1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])

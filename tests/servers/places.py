"""Where servers and temporary files are put: folders, users and ports."""

import os
import socket
import stat
import tempfile
from pathlib import Path

NOBODY = 65534
_MEMORY = Path("/dev/shm")  # noqa: S108 - used like any other temporary folder
_MEMORY_BYTES_MIN = 4 * 2**30


class ServerUnavailable(Exception):
    """A server that the tests need cannot be had; the message says what to do."""


def use_memory() -> None:
    """Let this process and its children put temporary files into memory, if there is plenty.

    A new database is some hundred files, which takes a disk ten times as long. Whoever has set
    TMPDIR knows a better place.
    """
    is_chosen = any(name in os.environ for name in ("TMPDIR", "TEMP", "TMP"))
    if is_chosen or not os.access(_MEMORY, os.W_OK):
        return
    memory = os.statvfs(_MEMORY)
    # Servers' programs are put there too, and run.
    may_run = not memory.f_flag & os.ST_NOEXEC
    # How far the folder may grow, and what there is for it to grow into.
    room = min(memory.f_bavail * memory.f_frsize, _available_bytes())
    if may_run and room >= _MEMORY_BYTES_MIN:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, kilobytes, *_ = line.split()
        if name == "MemAvailable:":
            return int(kilobytes) * 1024
    return 0


def server_user() -> int | None:
    """The uid a server that refuses to run as root gets, or None to run as the caller."""
    return NOBODY if os.geteuid() == 0 else None


def new_folder(prefix: str, user: int | None) -> Path:
    """Make a folder that only `user` may enter, at a place that this user can reach.

    The permissions of folders that are not ours are respected, never changed: where the usual
    temporary folder is closed to the user, the next one is tried.
    """
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - mkdtemp makes an own folder inside
    for place in places:
        if user is None or _reachable(place.resolve()):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            if user is not None:
                os.chown(folder, user, user)
            return folder
    message = f"uid {user} can enter none of {', '.join(map(str, places))}"
    raise ServerUnavailable(message)


def _reachable(place: Path) -> bool:
    return all(
        step.is_dir() and step.stat().st_mode & stat.S_IXOTH for step in (place, *place.parents)
    )


def free_port() -> int:
    """A port that was free a moment ago: whoever binds it must be ready to ask again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

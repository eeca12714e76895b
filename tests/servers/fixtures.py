"""Fixtures that hand out real servers.

A test run has one PostgreSQL, started when the first test asks for it and shared by all workers,
and one Valkey per worker. Servers named in CHECKOUT_TEST_POSTGRES_URL and CHECKOUT_TEST_REDIS_URL
are used instead. A server that cannot be had fails the tests that need it; away from CI,
CHECKOUT_TEST_ALLOW_SKIP=1 skips them.
"""

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest
from sqlalchemy import URL

from tests.servers import postgres, valkey
from tests.servers.lifeline import stop_from_afar
from tests.servers.places import ServerUnavailable, use_memory
from tests.servers.postgres import PostgresServer, RestartablePostgres, StartedPostgres
from tests.servers.valkey import PrivateRedis, RedisServer

POSTGRES_URL = "CHECKOUT_TEST_POSTGRES_URL"
REDIS_URL = "CHECKOUT_TEST_REDIS_URL"
ALLOW_SKIP = "CHECKOUT_TEST_ALLOW_SKIP"


@dataclass(frozen=True, kw_only=True)
class SharedRun:
    """What the processes of one test run share."""

    folder: str
    run_id: str
    owner_pid: int

    @property
    def started_postgres(self) -> Path:
        """The file that says where the shared PostgreSQL is, once it is started."""
        return Path(self.folder, "postgres.json")


_RUN = pytest.StashKey[SharedRun]()


def run_folder(config: pytest.Config) -> Path:
    """Return the folder that all processes of the test run share, and that goes with it."""
    return Path(config.stash[_RUN].folder)


def pytest_configure(config: pytest.Config) -> None:
    """Open the test run, or join it as a worker."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None:
        config.stash[_RUN] = SharedRun(**worker["shared_run"])
    else:
        use_memory()
        config.stash[_RUN] = SharedRun(
            folder=tempfile.mkdtemp(prefix="checkout-tests-"),
            run_id=secrets.token_hex(4),
            owner_pid=os.getpid(),
        )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker which run it belongs to."""
    node.workerinput["shared_run"] = asdict(node.config.stash[_RUN])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the test run: the first process ends what any of them started."""
    run = config.stash[_RUN]
    if run.owner_pid != os.getpid():
        return
    given = os.environ.get(POSTGRES_URL)
    if run.started_postgres.exists():
        started = StartedPostgres(**json.loads(run.started_postgres.read_text()))
        if given:
            PostgresServer(given, run.run_id).drop_all()
        else:
            stop_from_afar(started.lifeline_pid, Path(started.folder))
    shutil.rmtree(run.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> PostgresServer:
    """PostgreSQL with databases for the asking; see PostgresServer."""
    run = pytestconfig.stash[_RUN]
    try:
        return PostgresServer(_shared_postgres(run).url, run.run_id)
    except ServerUnavailable as error:
        _unavailable("PostgreSQL", POSTGRES_URL, error)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own, as a SQLAlchemy URL."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def restartable_postgres() -> Iterator[RestartablePostgres]:
    """A PostgreSQL server of the test's own, to break off in the middle."""
    try:
        server = RestartablePostgres()
    except ServerUnavailable as error:
        _unavailable("A private PostgreSQL", None, error)
    yield server
    server.stop()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file of the test's own that does not exist yet, as a SQLAlchemy URL."""
    return URL.create("sqlite", database=str(tmp_path / "database.db")).render_as_string()


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    """A Redis database of the worker's own; a test that needs it empty calls `flush()` first."""
    given = os.environ.get(REDIS_URL)
    try:
        server = valkey.given(given, _worker_number(pytestconfig)) if given else valkey.start()
    except ServerUnavailable as error:
        _unavailable("Redis", REDIS_URL, error)
    yield server
    server.flush()
    if isinstance(server, PrivateRedis):
        server.stop()


@pytest.fixture
def private_redis() -> Iterator[PrivateRedis]:
    """A Redis server of the test's own, to stop or kill in the middle."""
    try:
        server = valkey.start()
    except ServerUnavailable as error:
        _unavailable("A private Redis", None, error)
    yield server
    server.stop()


def _shared_postgres(run: SharedRun) -> StartedPostgres:
    with Path(run.folder, "lock").open("w") as lock:
        # The first to come starts it, the others wait here for it to be ready.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if run.started_postgres.exists():
            return StartedPostgres(**json.loads(run.started_postgres.read_text()))
        given = os.environ.get(POSTGRES_URL)
        started = _given_postgres(given) if given else postgres.start(run.owner_pid)
        run.started_postgres.write_text(json.dumps(asdict(started)))
        return started


def _given_postgres(url: str) -> StartedPostgres:
    plain = postgres.plain_url(url)
    try:
        psycopg.connect(plain, connect_timeout=10).close()
    except psycopg.Error as error:
        message = f"{POSTGRES_URL}: {error}"
        raise ServerUnavailable(message) from error
    return StartedPostgres(url=url, folder="", lifeline_pid=0)


def _worker_number(config: pytest.Config) -> int:
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    return int(str(worker.get("workerid", "gw0")).removeprefix("gw"))


def _unavailable(what: str, variable: str | None, error: Exception) -> NoReturn:
    hint = f" ({variable} can name one)" if variable and variable not in os.environ else ""
    message = f"{what} is not available{hint}: {error}"
    if os.environ.get(ALLOW_SKIP) == "1" and not os.environ.get("CI"):
        pytest.skip(message)
    raise pytest.fail.Exception(message, pytrace=False) from None

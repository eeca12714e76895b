"""What is measured: the services, their floor, an empty RPC and a peer, each as real processes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, Self

import grpc
import sqlalchemy as sa

from bench.load import GRPC, HTTP, Load, Outcome
from bench.usage import cpu_seconds, descendants
from deploy.processes import ROOT, free_ports, without_settings
from service_kit.ids import new_id
from tests.servers import postgres, valkey
from tests.servers.lifeline import stop_from_afar

SECRET: Final = "a secret of the measurements, which protects nothing"  # noqa: S105 - see there
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02
_NO_PLACE: Final = "RESOURCE_EXHAUSTED"
# Of the calls, so many may be told to come back for another reason than want of a place: an
# overload makes a few wait too long for a connection or a row.
_TROUBLE_MAX: Final = 0.02


class Void(Exception):
    """A run whose answers or rows were not what they had to be; its figures say nothing."""


class Stage:
    """The stores that everybody uses, and a folder. Everything goes when its block is over."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="checkout-bench-")
        self.folder = Path(self._folder.name)
        self._postgres = postgres.start(os.getpid(), durable=True)
        self._databases = postgres.PostgresServer(self._postgres.url, new_id(""))
        self._redis = valkey.start()
        self.redis_url = self._redis.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        stop_from_afar(self._postgres.lifeline_pid, Path(self._postgres.folder))
        self._redis.stop()
        self._folder.cleanup()

    def new_folder(self) -> Path:
        """Make an empty folder: a subject that is started again begins anew."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def database(self) -> str:
        """Make an empty database and return its SQLAlchemy URL."""
        return self._databases.create_database()

    def postgres_cpu_seconds(self) -> float:
        """Return how much processor time PostgreSQL's processes have used."""
        return cpu_seconds(descendants(self._postgres.lifeline_pid))


class Subject:
    """Something that can be called. `address` is the order service's, or the only one's."""

    protocol = GRPC
    # Where the rows are that a call must have made, as SQLAlchemy URLs.
    databases: Mapping[str, str]

    def __init__(self, name: str) -> None:
        self.name = name
        self.databases = {}
        self.address = self.payment_address = ""
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> list[int]:
        """The server's processes, with those that they have started."""
        return [pid for process in self._processes for pid in descendants(process.pid)]

    def start(self, stage: Stage) -> None:
        """Start it and wait until it serves."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _take_ports(self) -> tuple[int, int]:
        """Choose where both services of it listen: the order service, then the payment service."""
        order_port, payment_port = free_ports(2)
        self.address = f"127.0.0.1:{order_port}"
        self.payment_address = f"127.0.0.1:{payment_port}"
        return order_port, payment_port

    def _migrate_postgres(self, stage: Stage, variables: dict[str, str]) -> None:
        """Make the services' databases, with their tables, and name them in their settings."""
        self.databases = {"orders": stage.database(), "payments": stage.database()}
        variables["ORDER_SERVICE_DATABASE_URL"] = self.databases["orders"]
        variables["PAYMENT_SERVICE_DATABASE_URL"] = self.databases["payments"]
        for module in ("order_service", "payment_service"):
            _migrate(module, variables)

    def _run(self, stage: Stage, module: str, *arguments: str, **variables: str) -> None:
        # What is written has to be written, as in earnest: to a file.
        with (stage.folder / f"{self.name}.log".replace(" ", "-")).open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    cwd=ROOT,
                    env={**without_settings(os.environ), **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )


class Services(Subject):
    """Both services, with everything that is on by default."""

    def __init__(
        self,
        name: str,
        *,
        sqlite: bool = False,
        redis: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name)
        self._sqlite = sqlite
        self._redis = redis
        self._variables = dict(variables or {})

    def start(self, stage: Stage) -> None:
        """Migrate, start, and wait until they serve."""
        variables = self._prepared(stage)
        for module in ("payment_service", "order_service"):
            self._run(stage, module, "serve", **variables)
        for address in (self.payment_address, self.address):
            _wait_for_grpc(address)

    def _prepared(self, stage: Stage) -> dict[str, str]:
        """Choose ports, make the databases, and return the settings of both services."""
        order_port, payment_port = self._take_ports()
        data = stage.new_folder()
        variables = {
            "CHECKOUT_DATA_DIR": str(data),
            "CHECKOUT_SECRET_KEY": SECRET,
            "ORDER_SERVICE_PORT": str(order_port),
            "ORDER_SERVICE_PAYMENT_TARGET": self.payment_address,
            "PAYMENT_SERVICE_PORT": str(payment_port),
            "ORDER_SERVICE_METRICS_PORT": "0",
            "PAYMENT_SERVICE_METRICS_PORT": "0",
            **self._variables,
        }
        if self._redis:
            for service in ("ORDER", "PAYMENT"):
                variables[f"{service}_SERVICE_REDIS_URL"] = stage.redis_url
        if self._sqlite:
            self.databases = {
                "orders": f"sqlite:///{data / 'order.db'}",
                "payments": f"sqlite:///{data / 'payment.db'}",
            }
        else:
            self._migrate_postgres(stage, variables)
        return variables


class Floor(Subject):
    """The same RPCs written by hand."""

    def __init__(self, name: str, *, sqlite: bool = False) -> None:
        super().__init__(name)
        self._sqlite = sqlite

    def start(self, stage: Stage) -> None:
        """Make the services' own tables, start, and wait until it answers."""
        order_port, payment_port = self._take_ports()
        data = stage.new_folder()
        variables = {"CHECKOUT_DATA_DIR": str(data), "CHECKOUT_SECRET_KEY": SECRET}
        if self._sqlite:
            self.databases = {"orders": f"sqlite:///{data / 'order.db'}"}
            _migrate("order_service", variables)
            self._serve(stage, "orders", order_port)
        else:
            self._migrate_postgres(stage, variables)
            self._serve(stage, "payments", payment_port, "--ledger", str(data / "gateway.db"))
            self._serve(stage, "orders", order_port, "--payments", str(payment_port))
            _wait_for_grpc(self.payment_address)
        _wait_for_grpc(self.address)

    def _serve(self, stage: Stage, which: str, port: int, *arguments: str) -> None:
        database = self.databases[which]
        if self._sqlite:
            database = database.removeprefix("sqlite:///")
        else:
            database = postgres.plain_url(database)
        self._run(
            stage,
            f"bench.floor.{which}",
            *("--port", str(port), "--database", database, *arguments),
        )


class Empty(Subject):
    """An RPC that does nothing, bare or behind what every call of the services goes through."""

    def __init__(self, name: str, *, intercepted: bool) -> None:
        super().__init__(name)
        self._intercepted = intercepted

    def start(self, stage: Stage) -> None:
        """Start it and wait until it answers."""
        [port] = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        arguments = ["--intercepted"] if self._intercepted else []
        self._run(stage, "bench.floor.empty", "--port", str(port), *arguments)
        _wait_for_grpc(self.address)


class Rest(Subject):
    """What a team would write instead."""

    protocol = HTTP

    def start(self, stage: Stage) -> None:
        """Start it and wait until it answers."""
        [port] = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        database = stage.database()
        self.databases = {"orders": database}
        self._run(
            stage,
            "bench.peers.fastapi_rest.app",
            PORT=str(port),
            DATABASE_URL=database.replace("+psycopg", "+asyncpg"),
            REDIS_URL=stage.redis_url,
        )
        _wait_until(lambda: _answers_http(self.address, "/health"))


def send(load: Load, *, pids: Callable[[], float] = lambda: 0.0) -> tuple[Outcome, float]:
    """Have a process of its own send a load. Return what came, and by how much `pids` grew.

    Raises Void if a single answer is wrong.
    """
    # The answer not through a pipe: of long ones there has come less than was written.
    with tempfile.NamedTemporaryFile(prefix="checkout-load-") as answer:
        used = _sent(load, Path(answer.name), pids)
        outcome = Outcome(**json.load(answer))
    check_answers(load, outcome)
    return outcome, used


def _sent(load: Load, answer: Path, pids: Callable[[], float]) -> float:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load", str(answer)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write(json.dumps(asdict(load)) + "\n")
        process.stdin.flush()
        process.stdout.readline()
        before = pids()
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        used = pids() - before
    if process.returncode:
        raise Void(f"the load on {load.method} ended with exit code {process.returncode}")
    return used


def check_answers(load: Load, outcome: Outcome) -> None:
    """Raise Void unless every call was answered as it had to be."""
    if outcome.wrong:
        raise Void(f"{outcome.wrong} wrong answers of {load.method}: {outcome.examples}")
    in_trouble = {code: n for code, n in outcome.came_back.items() if code != _NO_PLACE}
    if sum(in_trouble.values()) > outcome.calls * _TROUBLE_MAX:
        raise Void(f"too much trouble in {outcome.calls} calls of {load.method}: {in_trouble}")
    if (counted := len(load.bodies) - load.warm_up) != outcome.calls:
        raise Void(f"{outcome.calls} calls of {load.method} rather than {counted}")


@contextmanager
def running(subjects: Sequence[Subject], stage: Stage) -> Iterator[None]:
    """Run subjects side by side; only one at a time is called."""
    with ExitStack() as stack:
        for subject in subjects:
            stack.callback(subject.stop)
            subject.start(stage)
        yield


def count_rows(database: str, table: str) -> int:
    """Count the rows of a table."""
    query = sa.select(sa.func.count()).select_from(sa.table(table))
    engine = sa.create_engine(database, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def _migrate(module: str, variables: Mapping[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-m", module, "migrate"],
        cwd=ROOT,
        env={**without_settings(os.environ), **variables},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _wait_for_grpc(address: str) -> None:
    port = address.rpartition(":")[2]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(_START_SECONDS)


def _wait_until(happens: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while not happens():
        if time.monotonic() > give_up_at:
            raise TimeoutError
        time.sleep(_POLL_SECONDS)


def _answers_http(address: str, path: str) -> bool:
    with closing(HTTPConnection(address, timeout=1)) as connection, suppress(OSError):
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    return False

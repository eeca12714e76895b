"""Two processes of each service on one PostgreSQL, with Envoy before both pairs."""

import os
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psycopg

from deploy.processes import MODULES, ServiceProcess, free_ports, without_settings
from deploy.proxy import PORTS, Proxy
from tests.scrape import scrape_server
from tests.servers import postgres
from tests.servers.lifeline import stop_from_afar

# What a checkout is made of. Others are called as well: the order service reads the history of the
# payment service every second.
CHECKOUT_CALLS: Final = {
    "order_service": ("CreateOrder", "PayOrder", "GetOrder"),
    "payment_service": ("ProcessPayment",),
}
_OF_A_SERVICE: Final = 2
_NAMES: Final = {"order_service": "order", "payment_service": "payment"}


class Fleet:
    """The processes by their names, `order 1` to `payment 2`, and what is before them."""

    def __init__(self, folder: Path, databases: Mapping[str, str]) -> None:
        """Choose their ports; `databases` are URLs by the names of the services."""
        # All at once: nobody listens yet on what was found first.
        found = free_ports(len(PORTS) + len(MODULES) * _OF_A_SERVICE)
        ports = dict(zip(PORTS, found, strict=False))
        metrics_ports = iter(found[len(PORTS) :])
        self.proxy = Proxy(folder, ports)
        self._databases = databases
        self._shared = {
            **without_settings(os.environ),
            "CHECKOUT_DATA_DIR": str(folder),
            "CHECKOUT_SECRET_KEY": secrets.token_urlsafe(48),
            "ORDER_SERVICE_DATABASE_URL": databases["order_service"],
            "PAYMENT_SERVICE_DATABASE_URL": databases["payment_service"],
            # The order service finds the payment service where everybody else does.
            "ORDER_SERVICE_PAYMENT_TARGET": self.proxy.payments,
            # As long as a slow bank takes: whoever is killed is killed with calls under way.
            "PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS": "0.5",
        }
        self.processes = {
            f"{_NAMES[module]} {number}": self._process(
                module,
                number,
                folder,
                port=ports[f"{_NAMES[module]}_{number}_port"],
                metrics_port=next(metrics_ports),
            )
            for module in MODULES
            for number in range(1, _OF_A_SERVICE + 1)
        }

    def _process(
        self, module: str, number: int, folder: Path, *, port: int, metrics_port: int
    ) -> ServiceProcess:
        variables = {
            **self._shared,
            f"{module.upper()}_PORT": str(port),
            f"{module.upper()}_METRICS_PORT": str(metrics_port),
        }
        return ServiceProcess(
            module,
            address=f"127.0.0.1:{port}",
            variables=variables,
            log=folder / f"{module}-{number}.log",
            metrics=f"127.0.0.1:{metrics_port}",
        )

    def start(self) -> None:
        """Start everything and wait until Envoy has found everybody. Raises NotServing."""
        with ThreadPoolExecutor() as threads:
            for name in ("payment 1", "order 1"):
                threads.submit(self.processes[name].command, "migrate")
        for process in self.processes.values():
            process.start()
        self.proxy.start()
        for process in self.processes.values():
            process.wait_until_serving()
        self.proxy.wait_for(members=_OF_A_SERVICE)

    def stop(self) -> None:
        """End everything, the order service first."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.stop()
        self.proxy.stop()

    def calls(self, name: str) -> int:
        """Ask a process how many calls of checkouts it has answered since it started."""
        process = self.processes[name]
        methods = CHECKOUT_CALLS[process.module]
        series = scrape_server(process.metrics).series("checkout_rpc_calls_total")
        return int(sum(n for labels, n in series if labels["method"].endswith(methods)))

    def stored_bytes(self) -> int:
        """Ask PostgreSQL how much both databases take on disk, with their indexes."""
        sizes = 0
        for url in self._databases.values():
            with psycopg.connect(postgres.plain_url(url), connect_timeout=10) as connection:
                row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
                assert row is not None
                sizes += int(row[0])
        return sizes

    def verify(self) -> str:
        """Compare both databases and the gateway's ledger, and return what is told."""
        return self.processes["order 1"].command("verify")


@contextmanager
def running() -> Iterator[Fleet]:
    """Run it all over a folder and a PostgreSQL that go when the block ends. Raises NotServing."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="checkout-proxy-")))
        server = postgres.start(os.getpid())
        stack.callback(stop_from_afar, server.lifeline_pid, Path(server.folder))
        databases = postgres.PostgresServer(server.url, secrets.token_hex(4))
        fleet = Fleet(folder, {module: databases.create_database() for module in MODULES})
        stack.callback(fleet.stop)
        fleet.start()
        yield fleet

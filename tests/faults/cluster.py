"""Both services over databases of their own, as processes that can be killed."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from sqlalchemy import URL

from deploy.processes import free_ports
from service_kit.database import Database
from tests.checkout import SECRET, migrate_orders, migrate_payments
from tests.faults.aftermath import Books
from tests.faults.forked import Service, Zygote
from tests.servers.postgres import PostgresServer


@dataclass(frozen=True)
class Urls:
    """Where the two databases are, migrated."""

    orders: str
    payments: str


class Cluster:
    """One or more of each service, over the same databases and the same gateway."""

    def __init__(self, *, orders: list[Service], payments: list[Service], books: Books) -> None:
        self.orders = orders
        self.payments = payments
        self.books = books

    @property
    def order(self) -> Service:
        """The first order service."""
        return self.orders[0]

    @property
    def payment(self) -> Service:
        """The first payment service."""
        return self.payments[0]

    def service(self, module: str) -> Service:
        """The first service of a kind."""
        return self.order if module == self.order.module else self.payment

    def channels(self, number: int = 0) -> tuple[grpc.Channel, grpc.Channel]:
        """The ways to the order service and the payment service of a number."""
        return self.orders[number].channel, self.payments[number].channel


@contextmanager
def running_cluster(
    zygotes: Mapping[str, Zygote],
    folder: Path,
    urls: Urls,
    *,
    order_services: int = 1,
    payment_services: int = 1,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """Run the services; the first order service calls the first payment service, and so on.

    `variables` are further settings. The folder gets the logs and the gateway's books.
    """
    ports = free_ports(order_services + payment_services)
    order_ports, payment_ports = ports[:order_services], ports[order_services:]
    shared = {
        "CHECKOUT_DATA_DIR": str(folder),
        "CHECKOUT_SECRET_KEY": SECRET,
        "no_grpc_proxy": "127.0.0.1",
        **(variables or {}),
    }

    def payment_service(number: int, port: int) -> Service:
        settings = {
            "PAYMENT_SERVICE_DATABASE_URL": urls.payments,
            "PAYMENT_SERVICE_PORT": str(port),
            "PAYMENT_SERVICE_METRICS_PORT": "off",
        }
        return service("payment_service", number, port, settings)

    def order_service(number: int, port: int) -> Service:
        payment_port = payment_ports[min(number, payment_services - 1)]
        settings = {
            "ORDER_SERVICE_DATABASE_URL": urls.orders,
            "ORDER_SERVICE_PORT": str(port),
            "ORDER_SERVICE_PAYMENT_TARGET": f"127.0.0.1:{payment_port}",
            "ORDER_SERVICE_METRICS_PORT": "off",
        }
        return service("order_service", number, port, settings)

    def service(module: str, number: int, port: int, settings: dict[str, str]) -> Service:
        # Its few customers call as fast as they can.
        settings |= {f"{module.upper()}_CUSTOMER_{limit}": "0" for limit in ("RATE", "CALLS")}
        return stack.enter_context(
            closing(
                Service(
                    zygotes[module],
                    address=f"127.0.0.1:{port}",
                    variables={**shared, **settings},
                    files=folder / f"{module}_{number}",
                )
            )
        )

    with ExitStack() as stack:
        payments = [payment_service(*each) for each in enumerate(payment_ports)]
        orders = [order_service(*each) for each in enumerate(order_ports)]
        books = Books(
            stack.enter_context(closing(Database(urls.orders))),
            stack.enter_context(closing(Database(urls.payments))),
            folder / "gateway.db",
        )
        # In this order the first call of an order service already finds its neighbour.
        for started in (*payments, *orders):
            started.start()
            started.wait_until_serving()
        yield Cluster(orders=orders, payments=payments, books=books)


@contextmanager
def sqlite_urls(folder: Path) -> Iterator[Urls]:
    """Make two files."""
    urls = Urls(*(_sqlite(folder / name) for name in ("order.db", "payment.db")))
    migrate_orders(urls.orders)
    migrate_payments(urls.payments)
    yield urls


@contextmanager
def postgres_urls(server: PostgresServer) -> Iterator[Urls]:
    """Make two databases on a server, and drop them in the end."""
    urls = Urls(
        # Migrating takes longer than copying what was migrated once.
        server.create_database(server.template("orders", migrate_orders)),
        server.create_database(server.template("payments", migrate_payments)),
    )
    try:
        yield urls
    finally:
        server.drop_database(urls.orders)
        server.drop_database(urls.payments)


def _sqlite(path: Path) -> str:
    return URL.create("sqlite", database=str(path)).render_as_string()

"""PostgreSQL refuses, at every row and every commit: a call is done wholly or not at all."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from service_kit.database import ATTEMPTS_MAX, Database
from tests.checkout import Checkout, migrate_orders, migrate_payments, running_checkout
from tests.faults.errands import ERRANDS
from tests.faults.figures import Figures
from tests.faults.history import Unknown
from tests.faults.lines import Lines, breakable
from tests.faults.sabotage import sabotaged, struck
from tests.faults.size import sized
from tests.integration.service_kit.cut_connection import CutAtCommit
from tests.servers.postgres import PostgresServer
from tests.system.checkouts import POSTGRESQL, Checkouts

ORDER_TABLES: Final = (
    "idempotency_keys",
    "orders",
    "payment_operations",
    "order_audit_entries",
)
PAYMENT_TABLES: Final = ("payments", "refunds", "payment_audit_entries")
TABLES: Final = (*ORDER_TABLES, *PAYMENT_TABLES)
# Another transaction won: serialization_failure, deadlock_detected, lock_not_available,
# unique_violation. The disk is full.
SQLSTATES: Final = ("40001", "40P01", "55P03", "23505", "53100")
# What a call begins and ends in: of each service so many transactions at most.
COMMITS_MAX: Final = 3


@pytest.fixture(scope="module")
def lines(
    checkouts: Checkouts, module_seed: int, figures: Figures, errors_only: None
) -> Iterator[Lines]:
    """A checkout on PostgreSQL whose orders are all compared in the end."""
    with breakable(checkouts, POSTGRESQL, seed=module_seed) as lines:
        yield lines
        lines.check(figures)


def database_of(checkout: Checkout, table: str) -> Database:
    return checkout.order_database if table in ORDER_TABLES else checkout.payment_database


@pytest.mark.parametrize("at_commit", [False, True], ids=["at the row", "at the commit"])
@pytest.mark.parametrize("times", [1, ATTEMPTS_MAX + 2], ids=["once", "more often than re-runs"])
@pytest.mark.parametrize("table", TABLES)
def test_an_error_of_the_database_leaves_nothing_half_done(
    lines: Lines,
    figures: Figures,
    pool: ThreadPoolExecutor,
    table: str,
    *,
    times: int,
    at_commit: bool,
) -> None:
    database = database_of(lines.checkout, table)
    met = 0
    for sqlstate in SQLSTATES:
        requests = [errand(lines) for errand in ERRANDS.values()]
        with sabotaged(database, table, sqlstate, times=times * len(requests), at_commit=at_commit):
            list(pool.map(lines.send, requests))
            met += struck(database)
        list(pool.map(lines.send_until_final, requests))
    assert met, f"nothing wrote {table}"
    figures.add("errors of PostgreSQL", met)


class BehindCuts:
    """Starts checkouts whose lines to PostgreSQL can be cut between a commit and its answer."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self.cuts: dict[str, CutAtCommit] = {}

    @contextmanager
    def running(self, _database: str, **settings: Any) -> Iterator[Checkout]:
        server = self._server
        orders = server.create_database(server.template("orders", migrate_orders))
        payments = server.create_database(server.template("payments", migrate_payments))
        try:
            with CutAtCommit(orders) as of_orders, CutAtCommit(payments) as of_payments:
                self.cuts = {"orders": of_orders, "payments": of_payments}
                with running_checkout(
                    self._folder,
                    order_url=of_orders.url,
                    payment_url=of_payments.url,
                    migrate=False,
                    **settings,
                ) as checkout:
                    yield checkout
        finally:
            server.drop_database(orders)
            server.drop_database(payments)


@pytest.fixture(scope="module")
def cuttable(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    module_seed: int,
    figures: Figures,
    errors_only: None,
) -> Iterator[tuple[Lines, dict[str, CutAtCommit]]]:
    """A checkout behind cuts, all of whose orders are compared in the end."""
    server = request.getfixturevalue("postgres_server")
    checkouts: Any = BehindCuts(server, tmp_path_factory.mktemp("cut"))
    with breakable(checkouts, POSTGRESQL, seed=module_seed) as lines:
        yield lines, checkouts.cuts
        lines.check(figures)


@pytest.mark.parametrize("number", range(COMMITS_MAX))
@pytest.mark.parametrize("service", ["orders", "payments"])
@pytest.mark.parametrize("errand", ERRANDS)
def test_a_commit_whose_confirmation_is_lost_is_recognised(
    cuttable: tuple[Lines, dict[str, CutAtCommit]],
    figures: Figures,
    errand: str,
    service: str,
    number: int,
) -> None:
    lines, cuts = cuttable
    for _ in range(sized(4)):
        request = ERRANDS[errand](lines)
        cuts[service].cut_commit(number)
        lines.send(request)
        figures.add("confirmations of a commit lost", cuts[service].spare())
        lines.send_until_final(request)


def test_a_database_that_is_read_only_for_a_while_is_written_nothing(
    lines: Lines, figures: Figures
) -> None:
    checkout = lines.checkout
    requests = [errand(lines) for errand in ERRANDS.values() for _ in range(sized(4))]
    with read_only(checkout.order_database):
        for request in requests:
            call = lines.send(request)
            assert isinstance(call.outcome, Unknown), call.outcome
            figures.add("calls while the database was read-only")
    # Now the orders can be written, and only what is asked of the payments cannot.
    with read_only(checkout.payment_database):
        for request in requests:
            lines.send(request)
            figures.add("calls while the database was read-only")
    for request in requests:
        lines.send_until_final(request)


@contextmanager
def read_only(database: Database) -> Iterator[None]:
    name = database.engine.url.database
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    def change(setting: str) -> None:
        with database.engine.connect() as connection:
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" {setting}')
            connection.commit()
            connection.exec_driver_sql(others)

    change("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        with database.engine.connect() as connection:
            connection.exec_driver_sql("SET default_transaction_read_only = off")
            connection.commit()
            connection.exec_driver_sql(
                f'ALTER DATABASE "{name}" RESET default_transaction_read_only'
            )
            connection.commit()
            connection.exec_driver_sql(others)
            connection.commit()
        database.engine.dispose()

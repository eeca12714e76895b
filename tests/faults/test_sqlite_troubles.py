"""SQLite is full, read-only or held by another: a call is done wholly or not at all."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from sqlite3 import connect
from types import MappingProxyType
from typing import Any, Final

import pytest
from sqlalchemy.engine import Connection

from service_kit.connections import Connections
from service_kit.database import Database
from tests.faults.errands import ERRANDS
from tests.faults.figures import Figures
from tests.faults.history import Call, Refused, Unknown
from tests.faults.lines import Lines, breakable
from tests.faults.size import sized
from tests.system.checkouts import SQLITE, Checkouts

pytestmark = pytest.mark.usefixtures("errors_only")

# Of each errand, so many at a time.
_ERRANDS: Final = 3
# A page has room for some rows.
_ERRANDS_TO_FILL_A_PAGE: Final = 5
_TIMES: Final = 2
# The longest deadline that a call can have.
_PATIENT_SECONDS: Final = 30.0


@pytest.fixture(scope="module")
def troubled() -> Iterator[None]:
    """Whatever connection a service takes, for each use of it, begins as it has to."""
    take = Connections.take

    def take_and_begin(connections: Connections) -> Connection:
        connection = take(connections)
        try:
            _begin(connection)
        except BaseException:
            connections.give_back(connection, failed=True)
            raise
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connections, "take", take_and_begin)
        yield


@pytest.fixture(scope="module")
def lines(
    checkouts: Checkouts, troubled: None, module_seed: int, figures: Figures
) -> Iterator[Lines]:
    """A checkout on SQLite, all of whose orders are compared in the end."""
    with breakable(checkouts, SQLITE, seed=module_seed) as lines:
        yield lines
        lines.check(figures)


@contextmanager
def full(file: str) -> Iterator[None]:
    """Let the file not grow by a single page, and have no page to spare."""
    with closing(connect(file)) as connection:
        connection.execute("VACUUM")
        [pages] = connection.execute("PRAGMA page_count").fetchone()
    # A limit below what there is counts as that: every connection gets the same.
    with on_every_connection(
        file, f"PRAGMA max_page_count = {pages}", "PRAGMA max_page_count = 1073741823"
    ):
        yield


@contextmanager
def read_only(file: str) -> Iterator[None]:
    """Let nobody write."""
    with on_every_connection(file, "PRAGMA query_only = ON", "PRAGMA query_only = OFF"):
        yield


@contextmanager
def held(file: str) -> Iterator[None]:
    """Let another program hold the write lock, longer than anybody here waits."""
    with closing(connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def on_every_connection(file: str, during: str, after: str) -> Iterator[None]:
    """Have each use of a connection to the file begin with a statement; then undo it."""
    _statements[file] = during
    try:
        yield
    finally:
        _statements[file] = after


# By file, what its connections begin with.
_statements: Final[dict[str, str]] = {}


def _begin(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    [(_, _, file)] = driver.execute("PRAGMA database_list").fetchall()
    if statement := _statements.get(file):
        driver.execute(statement)


def file_of(database: Database) -> str:
    """Return the file as SQLite itself names it."""
    file = database.engine.url.database
    assert file is not None
    return str(Path(file).resolve())


TROUBLES: Final[Mapping[str, Callable[[str], Any]]] = MappingProxyType(
    {"full": full, "read-only": read_only, "held by another": held}
)


@pytest.mark.parametrize("of", ["orders", "payments"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_nothing_is_half_done_and_the_same_key_does_it_later(
    lines: Lines, figures: Figures, pool: ThreadPoolExecutor, trouble: str, of: str
) -> None:
    checkout = lines.checkout
    database = checkout.order_database if of == "orders" else checkout.payment_database
    for _ in range(sized(_TIMES)):
        count = _ERRANDS_TO_FILL_A_PAGE if trouble == "full" else _ERRANDS
        requests = [errand(lines) for errand in ERRANDS.values() for _ in range(count)]
        with TROUBLES[trouble](file_of(database)):
            calls = list(pool.map(lines.send, requests))
        met = sum(is_in_vain(call) for call in calls)
        assert met, f"nobody met a database that is {trouble}"
        figures.add(f"calls in vain, SQLite {trouble}", met)
        list(pool.map(lines.send_until_final, requests))


@pytest.mark.parametrize("of", ["orders", "payments"])
def test_who_waits_for_a_database_that_another_holds_is_told_why(
    lines: Lines, figures: Figures, of: str
) -> None:
    """However many wait, and each of them for the others too."""
    checkout = lines.checkout
    database = checkout.order_database if of == "orders" else checkout.payment_database
    requests = [errand(lines) for errand in ERRANDS.values() for _ in range(_ERRANDS)]
    with ThreadPoolExecutor(len(requests)) as crowd:
        with held(file_of(database)):
            calls = list(crowd.map(partial(lines.send, timeout=_PATIENT_SECONDS), requests))
        met = [call for call in calls if is_in_vain(call)]
        assert met, "nobody met it"
        late = [call for call in met if is_late(call)]
        assert late == []
        figures.add("patient calls in vain, SQLite held by another", len(met))
        list(crowd.map(lines.send_until_final, requests))


def is_late(call: Call) -> bool:
    """Say whether the caller has gone before it was told anything."""
    return isinstance(call.outcome, Unknown) and call.outcome.problem.startswith(
        "DEADLINE_EXCEEDED"
    )


def is_in_vain(call: Call) -> bool:
    """Say whether the caller is told to come back, for a reason of the contract."""
    match call.outcome:
        case Unknown(problem=problem):
            told = problem.endswith(("STORAGE_UNAVAILABLE", "PAYMENT_OUTCOME_UNKNOWN"))
            assert told or is_late(call), call
            return True
        case Refused(final=final):
            return not final
        case _:
            return False

"""Figures and seeds of the attack.

Every random choice of a test comes from its `seed`. A failure prints the seed and the command that
repeats the test with it.
"""

import logging
import os
import secrets
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
import structlog

from tests.checkout import Checkout
from tests.faults.aftermath import books_of, violations
from tests.faults.drafts import tried_without_locks
from tests.faults.errands import ERRANDS
from tests.faults.figures import Figures, collected, lines, missing, write_report
from tests.faults.forked import Zygote, loaded_zygotes
from tests.faults.racing import Racecourse
from tests.servers.fixtures import run_folder
from tests.system.checkouts import BOTH, Checkouts

SEED: Final = "FAULTS_SEED"
# What a whole run has to have done, by the names of its figures.
FLOORS: Final[dict[str, int]] = {
    "races, sqlite": 5_000,
    "races, postgresql": 5_000,
    "kills, named points": 396,
    "kills, random": 100,
    "zombies": 32,
    "restarts of PostgreSQL": 30,
    "troubles of Redis": 120,
    "replies planted in Redis": 100,
    "disks full in the middle of a write": 24,
    "checkouts": 400,
    "clock jumps, sqlite": 300,
    "clock jumps, postgresql": 300,
    "deadlines, sqlite": 150,
    "deadlines, postgresql": 150,
    "model, states": 300_000,
    "model, guards removed and caught": 45,
}

_BEGAN: Final = pytest.StashKey[float]()
_FIGURES: Final = "figures"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the whole run insist on its size."""
    parser.addoption(
        "--whole", action="store_true", help="fail unless the run did all that the figures promise"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Note when it began."""
    config.stash[_BEGAN] = time.time()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes: in the end one process would be left alone with it."""
    items.sort(key=lambda item: item.get_closest_marker("takes_minutes") is None)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Iterator[Figures]:
    """Counts what the tests of this process do."""
    figures = Figures()
    yield figures
    figures.save(run_folder(pytestconfig) / _FIGURES / f"{os.getpid()}.json")


@pytest.fixture(scope="session")
def zygotes() -> Iterator[dict[str, Zygote]]:
    """Both services, loaded, to start processes from."""
    with loaded_zygotes() as started:
        yield started


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The number that every random choice of the test follows from."""
    seed = int(os.environ.get(SEED) or secrets.randbelow(1_000_000_000))
    request.node.user_properties.append((SEED, seed))
    return seed


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads to call from at the same time, one for each errand."""
    with ThreadPoolExecutor(len(ERRANDS)) as threads:
        yield threads


@pytest.fixture(scope="module")
def module_seed() -> int:
    """The number that the random choices of a whole module follow from."""
    return int(os.environ.get(SEED) or secrets.randbelow(1_000_000_000))


@pytest.fixture(scope="session")
def checkouts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Checkouts:
    """Starts checkouts over either database."""
    return Checkouts(
        postgres=lambda: request.getfixturevalue("postgres_server"),
        new_folder=lambda: tmp_path_factory.mktemp("checkout"),
    )


@pytest.fixture(scope="session", autouse=True)
def mixed_changes() -> Iterator[None]:
    """Of the changes in this process half are tried without locks, so that both kinds meet."""
    with tried_without_locks(0.5):
        yield


@pytest.fixture(scope="module")
def errors_only() -> Iterator[None]:
    """Bugs alone are logged: a line for each of a hundred thousand calls takes longer than they."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module", params=BOTH)
def crowded(
    request: pytest.FixtureRequest, checkouts: Checkouts, errors_only: None, figures: Figures
) -> Iterator[tuple[str, Checkout]]:
    """A database and a checkout on it, for thousands of orders, and verified in the end."""
    with checkouts.running(request.param, payment_gateway_slow_seconds=0.01) as checkout:
        yield request.param, checkout
        assert violations(books_of(checkout), figures, clock=checkout.clock) == []


@pytest.fixture
def course(crowded: tuple[str, Checkout], figures: Figures, seed: int) -> Iterator[Racecourse]:
    """Races on either database."""
    database, checkout = crowded
    random = Random(seed)  # noqa: S311 - it must be repeatable
    course = Racecourse(checkout, database=database, random=random, figures=figures)
    yield course
    course.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Tell how to repeat a failure."""
    report: pytest.TestReport = yield
    if report.failed:
        of_module = getattr(item, "funcargs", {}).get("module_seed")
        seed = dict(item.user_properties).get(SEED, of_module)
        chosen = f"{SEED}={seed} " if seed is not None else ""
        arguments = shlex.quote(f"ARGS={shlex.quote(item.nodeid)}")
        report.sections.append(("repeat with", f"{chosen}make faults {arguments}"))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the figures of all processes, and write them down."""
    total = collected(_saved(config))
    if not total.counts:
        return
    terminalreporter.section("figures")
    for line in lines(total):
        terminalreporter.write_line(line)
    command = "make faults" if config.getoption("--whole") else "a part of make faults"
    write_report(total, began=config.stash[_BEGAN], command=command)
    if config.getoption("--whole"):
        for problem in missing(total, FLOORS):
            terminalreporter.write_line(f"too little: {problem}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a whole run that did less than it promises."""
    config = session.config
    if hasattr(config, "workerinput") or not config.getoption("--whole"):
        return
    if missing(collected(_saved(config)), FLOORS):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _saved(config: pytest.Config) -> list[Path]:
    return sorted((run_folder(config) / _FIGURES).glob("*.json"))

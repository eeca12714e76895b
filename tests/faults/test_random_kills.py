"""Whenever a service dies, however often, while many clients go through whole checkouts."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from tests.faults.aftermath import report_of
from tests.faults.cluster import postgres_urls, running_cluster, sqlite_urls
from tests.faults.figures import Figures
from tests.faults.forked import Zygote
from tests.faults.size import sized
from tests.faults.storm import SETTINGS, Storm, sit_out
from tests.system.checkouts import POSTGRESQL, SQLITE

# Of each service. Where there is one writer at a time, less is under way when it dies.
KILLS = {POSTGRESQL: 50, SQLITE: 10}
SHOPPERS = 24
# From one death to the next: in between the service may even have done something.
PAUSE_SECONDS = (0.1, 1.3)


@pytest.fixture(params=KILLS)
def storm(
    request: pytest.FixtureRequest, zygotes: dict[str, Zygote], seed: int, tmp_path: Path
) -> Iterator[Storm]:
    kills = sized(KILLS[request.param])
    with ExitStack() as stack:
        if request.param == POSTGRESQL:
            urls = stack.enter_context(postgres_urls(request.getfixturevalue("postgres_server")))
        else:
            urls = stack.enter_context(sqlite_urls(tmp_path))
        cluster = running_cluster(zygotes, tmp_path, urls, variables=SETTINGS)
        yield Storm(
            stack.enter_context(cluster),
            random=Random(seed),  # noqa: S311 - it must be repeatable
            shoppers=SHOPPERS,
            pause_seconds=PAUSE_SECONDS,
            # The number ends it, however long that takes.
            goes_on=lambda killed: len(killed) < kills,
        )


def test_no_money_is_lost_or_taken_twice(storm: Storm, figures: Figures) -> None:
    aftermath = sit_out(storm, figures)
    assert not aftermath.problems, report_of(aftermath.problems)

"""Whenever a service dies, however often, while many clients go through whole checkouts."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from tests.faults.aftermath import report_of
from tests.faults.cluster import Cluster, postgres_urls, running_cluster, sqlite_urls
from tests.faults.figures import Figures
from tests.faults.forked import Zygote
from tests.faults.size import sized
from tests.faults.storm import SETTINGS, Storm
from tests.system.checkouts import BOTH, POSTGRESQL

# Of each service on each database.
KILLS = 30
SHOPPERS = 24
# From one death to the next: in between the service may even have done something.
PAUSE_SECONDS = (0.1, 1.3)


@pytest.fixture(params=BOTH)
def cluster(
    request: pytest.FixtureRequest, zygotes: dict[str, Zygote], tmp_path: Path
) -> Iterator[Cluster]:
    with ExitStack() as stack:
        if request.param == POSTGRESQL:
            urls = stack.enter_context(postgres_urls(request.getfixturevalue("postgres_server")))
        else:
            urls = stack.enter_context(sqlite_urls(tmp_path))
        yield stack.enter_context(running_cluster(zygotes, tmp_path, urls, variables=SETTINGS))


def test_no_money_is_lost_or_taken_twice(cluster: Cluster, figures: Figures, seed: int) -> None:
    storm = Storm(
        cluster,
        random=Random(seed),  # noqa: S311 - it must be repeatable
        shoppers=SHOPPERS,
        pause_seconds=PAUSE_SECONDS,
        goes_on=lambda kills: len(kills) < sized(KILLS),
    )
    storm.start()
    storm.end()
    aftermath = storm.look(figures)
    assert not aftermath.problems, report_of(aftermath.problems)

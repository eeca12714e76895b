"""Whenever PostgreSQL breaks down, however often, while many clients go through whole checkouts."""

import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.aftermath import report_of
from tests.faults.cluster import postgres_urls, running_cluster
from tests.faults.figures import Figures
from tests.faults.forked import Zygote
from tests.faults.outages import Outages
from tests.faults.size import sized
from tests.faults.storm import SETTINGS, Storm
from tests.servers.postgres import PostgresServer, RestartablePostgres

RESTARTS: Final = 30
SHOPPERS: Final = 24
_POLL_SECONDS: Final = 0.1


def test_no_money_is_lost_or_taken_twice(
    zygotes: dict[str, Zygote], tmp_path: Path, figures: Figures, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - it must be repeatable
    with ExitStack() as stack:
        server = RestartablePostgres()
        stack.callback(server.stop)
        urls = stack.enter_context(postgres_urls(PostgresServer(server.url, "restarts")))
        cluster = stack.enter_context(running_cluster(zygotes, tmp_path, urls, variables=SETTINGS))
        storm = Storm(
            cluster,
            random=random,
            shoppers=SHOPPERS,
            pause_seconds=(0, 0),
            goes_on=lambda _kills: False,
        )
        outages = Outages(server, random=Random(random.random()))  # noqa: S311 - likewise
        storm.start()
        outages.start()
        while outages.restarts < sized(RESTARTS) and not outages.problem and not storm.problems:
            time.sleep(_POLL_SECONDS)
        outages.stop()
        storm.end()
        aftermath = storm.look(figures)
    figures.add("restarts of PostgreSQL", outages.restarts)
    wrong = [*aftermath.problems, *([outages.problem] if outages.problem else [])]
    assert not wrong, report_of(wrong)

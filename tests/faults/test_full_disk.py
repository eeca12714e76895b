"""The disk of SQLite is full in the middle of a write, again and again, under load."""

import time
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.aftermath import report_of
from tests.faults.cluster import Cluster, running_cluster, sqlite_urls
from tests.faults.figures import Figures
from tests.faults.forked import Zygote
from tests.faults.history import Unknown
from tests.faults.size import sized
from tests.faults.storm import SETTINGS, Storm

TIMES: Final = 24
SHOPPERS: Final = 8
# A transaction waits a second and a half for the disk to have room again.
_FULL_SECONDS: Final = (1.0, 2.5)
_PAUSE_SECONDS: Final = (0.3, 0.9)
_FILES: Final = ("order.db", "order.db-wal", "payment.db", "payment.db-wal", "gateway.db-wal")


def test_no_money_is_lost_or_taken_twice(
    zygotes: dict[str, Zygote], tmp_path: Path, figures: Figures, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - it must be repeatable
    with (
        sqlite_urls(tmp_path) as urls,
        running_cluster(zygotes, tmp_path, urls, variables=SETTINGS) as cluster,
    ):
        storm = Storm(
            cluster,
            random=random,
            shoppers=SHOPPERS,
            pause_seconds=(0, 0),
            goes_on=lambda _kills: False,
        )
        storm.start()
        try:
            for _ in range(sized(TIMES)):
                time.sleep(random.uniform(*_PAUSE_SECONDS))
                fill_for_a_while(cluster, tmp_path / random.choice(_FILES), random)
        finally:
            storm.end()
        aftermath = storm.look(figures)
        told = [c.outcome.problem for c in storm.history.calls if isinstance(c.outcome, Unknown)]
    figures.add("disks full in the middle of a write", sized(TIMES))
    figures.add("calls in vain, disk full", sum("STORAGE_UNAVAILABLE" in it for it in told))
    assert any("STORAGE_UNAVAILABLE" in problem for problem in told), "nobody met a full disk"
    assert not aftermath.problems, report_of(aftermath.problems)


def fill_for_a_while(cluster: Cluster, file: Path, random: Random) -> None:
    """Let the service whose file it is write nothing behind some byte of it, in any file."""
    service = cluster.order if file.name.startswith("order") else cluster.payment
    # Anywhere in a page: a write may be cut in its middle.
    service.limit_files(random.randrange(1, max(2, file.stat().st_size)))
    time.sleep(random.uniform(*_FULL_SECONDS))
    service.limit_no_files()

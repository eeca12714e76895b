"""How far a history is whole, found out for everybody who follows it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service_kit.audit_head import AuditHead
from service_kit.database import Database
from service_kit.errors import ServerDraining
from service_kit.stream import Stream
from service_kit.streams import Streams
from tests.integration.service_kit.conftest import OpenDatabase, prepared
from tests.integration.service_kit.test_audit_feed import Writer, append, entries, metadata
from tests.unit.service_kit.test_streams import opened

pytestmark = pytest.mark.requirement("FR-241")


@pytest.fixture
def database(database_url: str, open_database: OpenDatabase) -> Database:
    return prepared(open_database(database_url), metadata)


@pytest.fixture
def postgres(module_postgres_url: str, open_database: OpenDatabase) -> Database:
    return prepared(open_database(module_postgres_url), metadata)


@contextmanager
def followed(database: Database) -> Iterator[tuple[AuditHead, Stream]]:
    """A head that somebody follows."""
    streams = Streams(limit=1)
    head = AuditHead(database, entries.c.sequence, streams)
    with opened(streams) as stream:
        yield head, stream


def add(database: Database, *texts: str) -> None:
    def work(connection: Connection) -> None:
        for text in texts:
            append(connection, text)

    database.transact(work)


def moved(head: AuditHead) -> int:
    """Look until there is nothing more to see at once."""
    while head():
        pass
    return head.sequence


class TestTheHead:
    def test_begins_at_the_newest_and_moves_on(self, database: Database) -> None:
        add(database, "one", "two")
        with followed(database) as (head, _):
            # The first look finds the newest, the second that nobody is in its way.
            assert [moved(head), moved(head)][-1] == 2
            add(database, "three")
            assert moved(head) == 3

    def test_of_an_empty_history_is_its_beginning(self, database: Database) -> None:
        with followed(database) as (head, _):
            assert [moved(head), moved(head)] == [0, 0]
            add(database, "one")
            assert moved(head) == 1

    def test_asks_for_nothing_while_nobody_follows(self, database: Database) -> None:
        add(database, "one")
        head = AuditHead(database, entries.c.sequence, Streams(limit=1))
        assert not head()
        assert head.sequence == 0

    def test_wakes_who_follows(self, database: Database) -> None:
        add(database, "one")
        with followed(database) as (head, stream):
            moved(head)
            moved(head)
            stream.sleep(60)
            assert head.sequence == 1

    def test_that_cannot_be_found_ends_who_follows_with_the_reason(
        self, database: Database
    ) -> None:
        with followed(database) as (head, stream):
            moved(head)
            database.transact(metadata.drop_all)
            with pytest.raises(sa.exc.DBAPIError):
                moved(head)
            with pytest.raises(sa.exc.DBAPIError):
                stream.sleep(60)
            stream.end(ServerDraining())

    def test_goes_on_after_a_failure(self, database: Database) -> None:
        with followed(database) as (head, _):
            moved(head)
            database.transact(metadata.drop_all)
            with pytest.raises(sa.exc.DBAPIError):
                moved(head)
            database.transact(metadata.create_all)
            add(database, "one")
            assert [moved(head), moved(head)][-1] == 1


class TestTransactionsThatAreNotOver:
    @pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls back"])
    def test_hold_the_head_where_it_begins(
        self, postgres: Database, threads: ThreadPoolExecutor, *, commits: bool
    ) -> None:
        earlier = Writer(postgres, threads, "earlier")
        add(postgres, "later")
        with followed(postgres) as (head, _):
            assert [moved(head) for _ in range(3)] == [0, 0, 0]
            (earlier.commit if commits else earlier.roll_back)()
            assert moved(head) == 2

    def test_that_began_later_do_not_hold_it_there(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        add(postgres, "one")
        with followed(postgres) as (head, _):
            earlier = Writer(postgres, threads, "two")
            head()
            later = Writer(postgres, threads, "three")
            earlier.commit()
            assert moved(head) == 2
            later.commit()
            assert moved(head) == 3

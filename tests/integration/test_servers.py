"""The servers that the other tests stand on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from tests.servers import postgres
from tests.servers.lifeline import Lifeline, Server, stop_from_afar
from tests.servers.places import new_folder
from tests.servers.postgres import PostgresServer, RestartablePostgres
from tests.servers.valkey import PrivateRedis, RedisServer


def _run(url: str, *statements: str) -> list[object]:
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            results = [connection.execute(sa.text(statement)) for statement in statements]
            return list(results[-1].scalars()) if results[-1].returns_rows else []
    finally:
        engine.dispose()


class TestPostgres:
    def test_is_version_18_and_remembers_what_was_written(self, postgres_url: str) -> None:
        _run(postgres_url, "CREATE TABLE notes (body text)", "INSERT INTO notes VALUES ('kept')")

        assert _run(postgres_url, "SELECT body FROM notes") == ["kept"]
        if not os.environ.get("CHECKOUT_TEST_POSTGRES_URL"):
            assert _run(postgres_url, "SHOW server_version")[0].startswith("18")  # type: ignore[attr-defined]

    def test_gives_every_test_a_database_of_its_own(self, postgres_server: PostgresServer) -> None:
        first, second = postgres_server.create_database(), postgres_server.create_database()
        _run(first, "CREATE TABLE notes (body text)")

        assert _run(second, "SELECT to_regclass('notes')") == [None]
        for url in (first, second):
            postgres_server.drop_database(url)

    def test_builds_a_template_once_and_copies_it(self, postgres_server: PostgresServer) -> None:
        built = []

        def build(url: str) -> None:
            built.append(url)
            _run(
                url, "CREATE TABLE notes (body text)", "INSERT INTO notes VALUES ('from template')"
            )

        name = "notes_" + os.urandom(4).hex()
        templates = {postgres_server.template(name, build) for _ in range(2)}
        url = postgres_server.create_database(templates.pop())

        assert _run(url, "SELECT body FROM notes") == ["from template"]
        assert len(built) == 1
        assert not templates
        postgres_server.drop_database(url)

    def test_a_private_one_breaks_off_and_comes_back_with_what_was_committed(
        self, restartable_postgres: RestartablePostgres
    ) -> None:
        url = restartable_postgres.url.replace("postgresql://", "postgresql+psycopg://")
        _run(url, "CREATE TABLE notes (body text)", "INSERT INTO notes VALUES ('kept')")
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            connection.execute(sa.text("INSERT INTO notes VALUES ('lost')"))
            restartable_postgres.restart()
            with pytest.raises(sa.exc.OperationalError):
                connection.execute(sa.text("SELECT 1"))
        engine.dispose()

        assert _run(url, "SELECT body FROM notes") == ["kept"]
        restartable_postgres.restart()
        assert _run(url, "SELECT body FROM notes") == ["kept"]

    def test_leaves_nothing_behind(self) -> None:
        started = postgres.start(os.getpid())
        stop_from_afar(started.lifeline_pid, Path(started.folder))

        assert not Path(started.folder).exists()


class TestRedis:
    def test_remembers_until_it_is_flushed(self, redis_server: RedisServer) -> None:
        with redis.Redis.from_url(redis_server.url) as client:
            client.set("note", "kept")
            assert client.get("note") == b"kept"
            redis_server.flush()
            assert client.get("note") is None

    @pytest.mark.parametrize("end", [PrivateRedis.stop, PrivateRedis.kill])
    def test_a_private_one_ends_and_comes_back_at_the_same_address(
        self, private_redis: PrivateRedis, end: object
    ) -> None:
        assert callable(end)
        with redis.Redis.from_url(private_redis.url, retry=None) as client:
            client.set("note", "lost")
            end(private_redis)
            with pytest.raises(redis.ConnectionError):
                client.get("note")
            private_redis.start()
            assert client.get("note") is None


class TestLifeline:
    def test_a_server_ends_with_a_killed_owner_and_leaves_nothing(self) -> None:
        folder = new_folder("lifeline-", None)
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
            server = Server(
                argv=["sleep", "600"],
                folder=str(folder),
                owner_pid=owner.pid,
                stop_signal=signal.SIGTERM,
                user=None,
            )
            lifeline = Lifeline(server)
            owner.kill()
            owner.wait()
            deadline = time.monotonic() + 10
            while not lifeline.ended() and time.monotonic() < deadline:
                time.sleep(0.02)

        assert lifeline.ended()
        lifeline.stop()
        assert not folder.exists()
        with pytest.raises(ProcessLookupError):
            os.kill(lifeline.server_pid, 0)

"""What `python -m SERVICE` does, with a service of its own that serves nothing but its health."""

import argparse
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import sqlalchemy as sa
from pydantic_settings import SettingsConfigDict

from deploy.authority import TokenIssuer
from service_kit.command_line import Command, Program
from service_kit.database import Database
from service_kit.errors import ConcurrentUpdate
from service_kit.logging import get_logger
from service_kit.schema import pending
from service_kit.secrets import load_secret
from service_kit.server import Server
from service_kit.settings import ServiceSettings, SettingsError, setting

# Any schema will do.
MIGRATIONS = "order_service.storage.migrations"
SECRET = "a secret of 32 characters or more"

Lines = Callable[[], list[str]]

# `run` configures the log of the process; the fixture puts it back.
pytestmark = pytest.mark.usefixtures("log")


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TOY_SERVICE_")

    database_file: ClassVar[str] = "toy.db"

    sweets: int = setting(3, "Sweets that go with a toy", "0 to 9", ge=0, le=9)


class ServesAMoment(Server):
    """Gets its SIGTERM as soon as it listens."""

    def start(self) -> None:
        super().start()
        os.kill(os.getpid(), signal.SIGTERM)


class Toys:
    """The program, and the settings that its service was built with."""

    def __init__(self) -> None:
        self.built: list[Settings] = []
        self.program = Program(
            module="toy_service",
            summary="The toy service: toys.",
            contract="toys.v1.ToyService",
            settings=Settings,
            build=self.build,
            migrations=MIGRATIONS,
            notes="Sweets are not for breakfast.",
        )

    def build(self, settings: Settings) -> Server:
        self.built.append(settings)
        load_secret(settings)
        database = Database(settings.effective_database_url())
        database.ping()
        return ServesAMoment(
            host=settings.host,
            port=settings.port,
            services=[],
            interceptors=[],
            ping=database.ping,
            closers=[database.close],
            insecure=settings.insecure,
            reflection=False,
        )

    def run(self, *arguments: str) -> int:
        return self.program.run(arguments)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> Toys:
    for name in os.environ:
        if name.startswith(("CHECKOUT_", "TOY_SERVICE_")) and "_TEST_" not in name:
            monkeypatch.delenv(name)
    monkeypatch.setenv("CHECKOUT_DATA_DIR", str(data_dir))
    monkeypatch.setenv("TOY_SERVICE_PORT", "0")
    return Toys()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "a data folder"


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Lines:
    """The lines written to standard error since the last look."""

    def lines() -> list[str]:
        return capsys.readouterr().err.splitlines()

    return lines


@pytest.mark.requirement("FR-129")
class TestHelp:
    @pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["migrate", "--help"]])
    def test_tells_every_variable_and_what_the_service_says(
        self, toys: Toys, capsys: pytest.CaptureFixture[str], arguments: list[str]
    ) -> None:
        with pytest.raises(SystemExit) as exit_:
            toys.run(*arguments)

        told = capsys.readouterr().out
        assert exit_.value.code == 0
        for field in Settings.model_fields:
            assert Settings.variable(field) in told
        assert "Sweets that go with a toy (0 to 9)" in told
        assert "Sweets are not for breakfast." in told

    def test_names_the_commands(self, toys: Toys, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            toys.run("--help")

        told = capsys.readouterr().out
        for word in ("python -m toy_service", "The toy service: toys.", "serve", "migrate"):
            assert word in told

    @pytest.mark.parametrize("arguments", [[], ["eat"], ["serve", "--sweets"]])
    def test_is_what_a_wrong_command_points_at(
        self, toys: Toys, stderr: Lines, arguments: list[str]
    ) -> None:
        with pytest.raises(SystemExit) as exit_:
            toys.run(*arguments)

        assert exit_.value.code == 2
        assert stderr()[0].startswith("usage: python -m toy_service")


@pytest.mark.requirement("FR-129")
class TestWrongSettings:
    @pytest.mark.parametrize("command", ["serve", "migrate"])
    def test_end_it_with_code_2_and_every_mistake(
        self, toys: Toys, monkeypatch: pytest.MonkeyPatch, stderr: Lines, command: str
    ) -> None:
        monkeypatch.setenv("TOY_SERVICE_PORT", "seventy")
        monkeypatch.setenv("TOY_SERVICE_SWEETS", "10")
        monkeypatch.setenv("TOY_SERVICE_SWETS", "1")
        monkeypatch.setenv("TOY_SERVICE_HOST", "0.0.0.0")  # noqa: S104 - refused

        assert toys.run(command) == 2

        _, *mistakes = stderr()
        assert {mistake.partition(":")[0] for mistake in mistakes} == {
            "TOY_SERVICE_PORT",
            "TOY_SERVICE_SWEETS",
            "TOY_SERVICE_SWETS",
            "TOY_SERVICE_HOST",
        }
        assert not toys.built

    def test_are_read_before_anything_is_made(
        self, toys: Toys, monkeypatch: pytest.MonkeyPatch, data_dir: Path
    ) -> None:
        monkeypatch.setenv("TOY_SERVICE_SWEETS", "many")
        toys.run("migrate")

        assert not data_dir.exists()


class TestServe:
    def test_migrates_the_embedded_database_serves_and_ends_on_sigterm(
        self, toys: Toys, data_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert toys.run("serve") == 0

        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert not pending(f"sqlite:///{data_dir}/toy.db", MIGRATIONS)
        log = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        events = [line["event"] for line in log]
        assert events[0] == "migrated"
        assert events.index("listening") < events.index("draining") < events.index("stopped")
        assert {line["service"] for line in log} == {"toy-service"}

    def test_leaves_the_permissions_of_a_folder_that_is_there(
        self, toys: Toys, data_dir: Path
    ) -> None:
        data_dir.mkdir(mode=0o755)
        assert toys.run("serve") == 0

        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o755

    @pytest.mark.requirement("FR-130")
    def test_listens_beyond_loopback_only_with_credentials(
        self, toys: Toys, monkeypatch: pytest.MonkeyPatch, data_dir: Path, stderr: Lines
    ) -> None:
        # An address of the documentation's: nothing has it, so binding it fails.
        monkeypatch.setenv("TOY_SERVICE_HOST", "192.0.2.1")

        for arguments in (["serve"], ["serve", "--insecure"]):
            assert toys.run(*arguments) == 2
            assert "set TOY_SERVICE_TLS_CERT_FILE" in stderr()[1]
            assert not toys.built

        keys = data_dir.with_name("keys.json")
        keys.write_text(TokenIssuer().key_set())
        monkeypatch.setenv("TOY_SERVICE_TOKEN_KEYS_FILE", str(keys))
        monkeypatch.setenv("TOY_SERVICE_TOKEN_ISSUER", "https://issuer.example")

        assert toys.run("serve") == 2
        assert "or --insecure" in stderr()[1]
        assert not toys.built

        assert toys.run("serve", "--insecure") == 1
        assert toys.built[0].insecure
        assert "192.0.2.1" in stderr()[0]

    @pytest.mark.requirement("FR-128")
    def test_names_the_address_that_is_taken(
        self, toys: Toys, monkeypatch: pytest.MonkeyPatch, stderr: Lines
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            monkeypatch.setenv("TOY_SERVICE_PORT", str(port))

            assert toys.run("serve") == 1

        [line] = stderr()
        assert f"127.0.0.1:{port}" in line

    @pytest.mark.requirement("FR-130")
    def test_tells_that_the_secret_is_unusable(
        self, toys: Toys, data_dir: Path, stderr: Lines
    ) -> None:
        data_dir.mkdir()
        (data_dir / "secret.key").write_text("short")

        assert toys.run("serve") == 1
        [line] = stderr()
        assert "secret" in line


@pytest.fixture(params=["sqlite", "postgresql"])
def given_database(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, toys: Toys
) -> str:
    """A database named by its URL, which nobody has migrated."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    monkeypatch.setenv("TOY_SERVICE_DATABASE_URL", url)
    monkeypatch.setenv("CHECKOUT_SECRET_KEY", SECRET)
    return url


@pytest.mark.requirement("FR-131")
class TestADatabaseThatWasGiven:
    def test_is_not_served_before_somebody_has_migrated_it(
        self, toys: Toys, given_database: str, stderr: Lines
    ) -> None:
        assert toys.run("serve") == 1

        [line] = stderr()
        assert "python -m toy_service migrate" in line
        assert not toys.built
        assert pending(given_database, MIGRATIONS)

    def test_is_migrated_on_command_as_often_as_one_likes(
        self, toys: Toys, given_database: str
    ) -> None:
        assert toys.run("migrate") == 0
        assert toys.run("migrate") == 0

        assert not pending(given_database, MIGRATIONS)
        assert toys.run("serve") == 0

    def test_is_never_sealed_with_a_secret_just_made(
        self, toys: Toys, sqlite_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever shares the database has another one, or none."""
        monkeypatch.setenv("TOY_SERVICE_DATABASE_URL", sqlite_url)

        assert toys.run("migrate") == 1
        assert pending(sqlite_url, MIGRATIONS)
        assert not data_dir.exists()

    def test_of_a_newer_version_is_left_alone(
        self, toys: Toys, given_database: str, stderr: Lines
    ) -> None:
        assert toys.run("migrate") == 0
        engine = sa.create_engine(given_database)
        with engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE order_service_schema_version SET version_num='9999'")
            )
        engine.dispose()

        assert toys.run("serve") == 1
        assert toys.run("migrate") == 1
        for line in stderr():
            assert "9999" in line
        assert not toys.built


class TestADatabaseThatDoesNotAnswer:
    @pytest.fixture
    def password(self, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{unused.getsockname()[1]}"
            url = f"postgresql://shop:hunter2hunter2@{address}/toys"
            monkeypatch.setenv("TOY_SERVICE_DATABASE_URL", url)
            monkeypatch.setenv("CHECKOUT_SECRET_KEY", SECRET)
            yield "hunter2hunter2"

    @pytest.mark.parametrize("command", ["serve", "migrate"])
    def test_is_named_by_its_variable_and_not_by_its_password(
        self, toys: Toys, stderr: Lines, password: str, command: str
    ) -> None:
        assert toys.run(command) == 1

        [line] = stderr()
        assert line.startswith("TOY_SERVICE_DATABASE_URL: ")
        assert password not in line

    def test_when_the_service_is_built_is_told_likewise(
        self, toys: Toys, data_dir: Path, stderr: Lines, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def build(settings: Settings) -> Server:
            (data_dir / "toy.db").write_bytes(b"no database" * 1000)
            return toys.build(settings)

        program = Program(
            module="toy_service",
            summary="",
            contract="",
            settings=Settings,
            build=build,
            migrations=MIGRATIONS,
        )

        assert program.run(["serve"]) == 1
        assert stderr()[-1].startswith("TOY_SERVICE_DATABASE_URL: ")

    def test_may_be_a_folder_that_cannot_be_made(
        self, toys: Toys, data_dir: Path, stderr: Lines
    ) -> None:
        data_dir.write_text("a file is in the way")

        assert toys.run("migrate") == 1
        [line] = stderr()
        assert str(data_dir) in line


def count_toys(settings: Settings, options: argparse.Namespace) -> int:
    if options.toys > settings.sweets:
        raise SettingsError(mistakes=["--toys: are more than there are sweets"])
    get_logger().warning("counting")
    sys.stdout.write(f"{options.toys} toys\n")
    return 7


def options_of_count(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--toys", type=int, default=1)


def program_that_counts(toys: Toys, *, needs_schema: bool = True) -> Program[Settings]:
    count = Command(
        "count",
        "count the toys",
        count_toys,
        arguments=options_of_count,
        needs_schema=lambda _options: needs_schema,
    )
    return replace(toys.program, commands=lambda: [count])


class TestACommandOfTheServicesOwn:
    def test_stands_in_the_help_beside_the_others(
        self, toys: Toys, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            program_that_counts(toys).run(["--help"])

        told = capsys.readouterr().out
        assert "serve | migrate | count" in told
        assert "count the toys" in told

    def test_gets_settings_and_options_and_gives_the_exit_code(
        self, toys: Toys, capsys: pytest.CaptureFixture[str]
    ) -> None:
        toys.run("migrate")
        capsys.readouterr()

        assert program_that_counts(toys).run(["count", "--toys", "3"]) == 7
        told = capsys.readouterr()
        assert told.out == "3 toys\n"
        assert json.loads(told.err)["event"] == "counting"

    def test_may_find_that_its_options_are_wrong(self, toys: Toys, stderr: Lines) -> None:
        toys.run("migrate")

        assert program_that_counts(toys).run(["count", "--toys", "4"]) == 2
        assert stderr()[-1] == "--toys: are more than there are sweets"

    def test_says_that_others_were_always_first(self, toys: Toys, stderr: Lines) -> None:
        def lose(_settings: Settings, _options: argparse.Namespace) -> int:
            raise ConcurrentUpdate(attempts=5)

        toys.run("migrate")
        program = replace(toys.program, commands=lambda: [Command("lose", "lose a race", lose)])
        assert program.run(["lose"]) == 1
        assert stderr()[-1] == "lost the race for the same rows 5 times"

    def test_wants_a_migrated_database_and_makes_none(
        self, toys: Toys, data_dir: Path, stderr: Lines
    ) -> None:
        assert program_that_counts(toys).run(["count"]) == 1

        [line] = stderr()
        assert "python -m toy_service migrate" in line
        assert not data_dir.exists()

    def test_may_look_after_the_database_itself(self, toys: Toys, data_dir: Path) -> None:
        assert program_that_counts(toys, needs_schema=False).run(["count"]) == 7
        assert not data_dir.exists()

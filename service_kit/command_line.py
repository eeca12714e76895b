"""What `python -m SERVICE` understands: serve, migrate, and what a service adds to them."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from psycopg.errors import InsufficientPrivilege
from sqlalchemy.exc import DBAPIError, OperationalError

from service_kit import logging
from service_kit.credentials.files import FileUnusable
from service_kit.errors import ConcurrentUpdate, StorageUnavailable
from service_kit.schema import SchemaUnknown, pending
from service_kit.secrets import SecretUnusable, load_secret, private_folder
from service_kit.server import CannotListen, Server, run_until_signal
from service_kit.settings import ServiceSettings, SettingsError, describe, load
from service_kit.worker_processes import (
    Member,
    Membership,
    WorkerNotStarted,
    WorkerProcesses,
)

S = TypeVar("S", bound=ServiceSettings)

_MEMBER: Final = "--member"
_OUR_OWN: Final = (["serve"], ["migrate"])


def _no_arguments(_parser: argparse.ArgumentParser) -> None:
    pass


def _always(_options: argparse.Namespace) -> bool:
    return True


@dataclass(frozen=True)
class Command(Generic[S]):
    """A command of a service's own.

    `run` gets the settings and the parsed options, answers on standard output and returns the
    exit code; the log of its process goes to standard error. What it raises ends like the same
    error of `serve`. It runs only on a database of this version's schema, unless `needs_schema`
    says that it looks after that itself, or that what it was told needs none.
    """

    name: str
    help: str
    run: Callable[[S, argparse.Namespace], int]
    description: str = ""
    arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    needs_schema: Callable[[argparse.Namespace], bool] = _always


@dataclass(frozen=True)
class Program(Generic[S]):
    """One service as a program.

    `module` is what `python -m` runs, `contract` the gRPC service that it serves, `migrations`
    the package of its schema, `commands` what it understands besides serve and migrate, which is
    asked for only if it is neither of these.
    """

    module: str
    summary: str
    contract: str
    settings: type[S]
    build: Callable[[S], Server]
    migrations: str
    notes: str = ""
    commands: Callable[[], Sequence[Command[S]]] = tuple

    def run(self, arguments: Sequence[str] | None = None) -> int:
        """Run a command. Returns its exit code: 1 if it failed, 2 for wrong settings."""
        arguments = sys.argv[1:] if arguments is None else arguments
        commands = () if arguments[:1] in _OUR_OWN else self.commands()
        options = _parser(self, commands).parse_args(arguments)
        given = _given(options)
        try:
            settings = load(self.settings, **given)
        except SettingsError as error:
            return _failed(f"wrong settings:\n{error}", code=2)
        own = {command.name: command for command in commands}.get(options.command)
        # What a command of its own answers stands on standard output, and nothing else does.
        stream = sys.stderr.buffer if own else None
        logging.configure(self.module.replace("_", "-"), json=settings.json_logs(), stream=stream)
        try:
            if own:
                return self._run(own, settings, options)
            serves = options.command == "serve"
            return self._serve(settings, options.member) if serves else self._migrate(settings)
        except SettingsError as error:
            return _failed(f"wrong settings:\n{error}", code=2)
        except (
            CannotListen,
            ConcurrentUpdate,
            FileUnusable,
            SchemaUnknown,
            SecretUnusable,
            WorkerNotStarted,
        ) as error:
            return _failed(str(error))
        except (StorageUnavailable, OperationalError):
            variable = self.settings.variable("database_url")
            return _failed(f"{variable}: the database does not answer")
        except DBAPIError as error:
            if not isinstance(error.orig, InsufficientPrivilege):
                raise
            return _failed(str(error.orig))
        except OSError as error:
            return _failed(f"{error.filename}: {error.strerror}")

    def _serve(self, settings: S, membership: Membership | None) -> int:
        if membership:
            return self._serve_as_member(settings, membership)
        if not settings.database_url:
            self._migrate(settings)
        elif pending(settings.database_url, self.migrations):
            return self._unmigrated()
        if settings.workers > 1:
            return self._serve_together(settings)
        run_until_signal(self.build(settings))
        return 0

    def _serve_together(self, settings: S) -> int:
        insecure = ["--insecure"] if settings.insecure else []
        count = ["--workers", str(settings.workers)]
        workers = WorkerProcesses(
            ["-m", self.module, "serve", *insecure, *count, _MEMBER],
            count=settings.workers,
            host=settings.host,
            port=settings.port,
            drain_seconds=settings.drain_seconds,
        )
        run_until_signal(workers)
        return 1 if any(workers.exit_codes) else 0

    def _serve_as_member(self, settings: S, membership: Membership) -> int:
        metrics_port = settings.metrics_port_of(membership.number)
        its = settings.model_copy(update={"port": membership.port, "metrics_port": metrics_port})
        member = Member(self.build(its), membership, drain_seconds=its.drain_seconds)
        run_until_signal(member, wait_for_end=member.wait_for_end)
        return 0

    def _migrate(self, settings: S) -> int:
        if not settings.database_url:
            private_folder(settings.data_dir)
        # Not to be waited for by whoever only serves.
        from service_kit.migrations import upgrade  # noqa: PLC0415

        url = settings.effective_database_url()
        # One that is made here stays here, and what others share would be sealed with it for good.
        make = not settings.database_url
        upgrade(url, self.migrations, secret=lambda: load_secret(settings, make=make))
        return 0

    def _run(self, command: Command[S], settings: S, options: argparse.Namespace) -> int:
        url = settings.effective_database_url()
        if command.needs_schema(options) and pending(url, self.migrations):
            return self._unmigrated()
        return command.run(settings, options)

    def _unmigrated(self) -> int:
        return _failed(f"the database is not migrated; first run: python -m {self.module} migrate")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that stand on the command line."""
    named = {name: getattr(options, name, None) for name in ("insecure", "workers")}
    return {name: value for name, value in named.items() if value not in {None, False}}


def _failed(message: str, *, code: int = 1) -> int:
    sys.stderr.write(f"{message}\n")
    return code


def _parser(program: Program[S], its_own: Sequence[Command[S]]) -> argparse.ArgumentParser:
    epilog = f"environment variables:\n\n{describe(program.settings)}\n\n{program.notes}".rstrip()
    settings = program.settings
    parser = argparse.ArgumentParser(
        prog=f"python -m {program.module}",
        description=program.summary,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ["serve", "migrate", *(command.name for command in its_own)]
    commands = parser.add_subparsers(required=True, dest="command", metavar=" | ".join(names))
    serve = commands.add_parser(
        "serve",
        help=f"serve {program.contract} until SIGTERM",
        description=f"Serves {program.contract} until SIGTERM, then lets running calls finish.\n"
        f"Without settings it listens on 127.0.0.1:{settings.model_fields['port'].default}, keeps"
        " its data in .data, and migrates it.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument(
        "--insecure",
        action="store_true",
        help="listen beyond loopback without TLS, where something else encrypts",
    )
    workers = settings.model_fields["workers"]
    serve.add_argument(
        "--workers",
        metavar="N",
        help=f"processes that serve on the port; {settings.variable('workers')} is the same"
        f" ({workers.default})",
    )
    # For those processes themselves.
    serve.add_argument(_MEMBER, type=Membership.parse, help=argparse.SUPPRESS)
    commands.add_parser(
        "migrate",
        help="bring the database to this version's schema",
        description="Brings the database to this version's schema. May be run again at any time.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for command in its_own:
        own = commands.add_parser(
            command.name,
            help=command.help,
            description=command.description or f"{command.help}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(own)
    return parser

"""What `python -m SERVICE` understands: serve, and migrate."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy.exc import OperationalError

from service_kit import logging
from service_kit.errors import StorageUnavailable
from service_kit.migrations import SchemaUnknown, pending, upgrade
from service_kit.secrets import SecretUnusable, private_folder
from service_kit.server import CannotListen, Server, run_until_signal
from service_kit.settings import ServiceSettings, SettingsError, describe, load

S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True)
class Program(Generic[S]):
    """One service as a program.

    `module` is what `python -m` runs, `contract` the gRPC service that it serves, `migrations`
    the package of its schema.
    """

    module: str
    summary: str
    contract: str
    settings: type[S]
    build: Callable[[S], Server]
    migrations: str
    notes: str = ""

    def run(self, arguments: Sequence[str] | None = None) -> int:
        """Run a command. Returns its exit code: 1 if it failed, 2 for wrong settings."""
        options = _parser(self).parse_args(arguments)
        given = {"insecure": True} if getattr(options, "insecure", False) else {}
        try:
            settings = load(self.settings, **given)
        except SettingsError as error:
            return _failed(f"wrong settings:\n{error}", code=2)
        logging.configure(self.module.replace("_", "-"), json=settings.json_logs())
        try:
            return self._migrate(settings) if options.migrate else self._serve(settings)
        except (CannotListen, SchemaUnknown, SecretUnusable) as error:
            return _failed(str(error))
        except (StorageUnavailable, OperationalError):
            variable = self.settings.variable("database_url")
            return _failed(f"{variable}: the database does not answer")
        except OSError as error:
            return _failed(f"{error.filename}: {error.strerror}")

    def _serve(self, settings: S) -> int:
        if not settings.database_url:
            self._migrate(settings)
        elif pending(settings.database_url, self.migrations):
            return _failed(
                f"the database is not migrated; first run: python -m {self.module} migrate"
            )
        run_until_signal(self.build(settings))
        return 0

    def _migrate(self, settings: S) -> int:
        if not settings.database_url:
            private_folder(settings.data_dir)
        upgrade(settings.effective_database_url(), self.migrations)
        return 0


def _failed(message: str, *, code: int = 1) -> int:
    sys.stderr.write(f"{message}\n")
    return code


def _parser(program: Program[S]) -> argparse.ArgumentParser:
    epilog = f"environment variables:\n\n{describe(program.settings)}\n\n{program.notes}".rstrip()
    settings = program.settings
    parser = argparse.ArgumentParser(
        prog=f"python -m {program.module}",
        description=program.summary,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="serve | migrate")
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
        help="listen beyond loopback although callers' identities are not proven",
    )
    serve.set_defaults(migrate=False)
    migrate = commands.add_parser(
        "migrate",
        help="bring the database to this version's schema",
        description="Brings the database to this version's schema. May be run again at any time.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    migrate.set_defaults(migrate=True)
    return parser

"""The `audit` command of a service: verify, export, anonymise."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from service_kit.audit import file, heads
from service_kit.audit.anonymise import anonymise
from service_kit.audit.arguments import add_arguments
from service_kit.audit.chain import ChainKey
from service_kit.audit.history import Histories
from service_kit.audit.mark import instance_of, require_mark
from service_kit.audit.tables import Trail
from service_kit.audit.verify import Verification, verify, verify_export
from service_kit.clock import Clock, SystemClock
from service_kit.command_line import Command
from service_kit.database import Database
from service_kit.secrets import SecretKey, load_secret
from service_kit.settings import ServiceSettings

_NAME: Final = "audit"


class CannotExport(Exception):
    """A source cannot be read; the sentence says which, and why."""


class CannotCompare(Exception):
    """A file of heads is not as it was written, or of something else; the sentence says how."""


class Parts(Protocol):
    """Collects what is known of a subject, from every service that can be asked."""

    def __call__(
        self, settings: Any, options: argparse.Namespace, secret: SecretKey
    ) -> Sequence[file.Part]:
        """Return it; nothing if nobody knows the subject. Raises CannotExport."""


def _nothing_else(_database: Database, _before: datetime) -> None:
    pass


def _no_arguments(_parser: argparse.ArgumentParser) -> None:
    pass


@dataclass(frozen=True)
class Audit:
    """What a service's `audit` command needs to know of it.

    `noun` is what a history is about. `parts` collects an export, `export_arguments` are what it
    can be told besides; `forget` makes persons anonymous where they are named outside the trail.
    """

    trail: Trail
    noun: str
    parts: Parts
    export_arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    forget: Callable[[Database, datetime], None] = _nothing_else
    clock: Clock = field(default_factory=SystemClock)

    def command(self) -> Command[Any]:
        """Return the command."""
        return Command(
            name=_NAME,
            help="verify the audit trail, export a history, make old actors anonymous",
            run=self._run,
            description="Looks after the audit trail, on a running system too.",
            arguments=lambda parser: add_arguments(parser, self.noun, self.export_arguments),
            needs_schema=lambda options: not getattr(options, "file", None),
        )

    def _run(self, settings: ServiceSettings, options: argparse.Namespace) -> int:
        secret = load_secret(settings, make=False)
        runs = {
            "verify": self._verify,
            "heads": self._heads,
            "export": self._export,
            "anonymise": self._anonymise,
        }
        try:
            return runs[options.what](settings, options, secret)
        except (CannotCompare, CannotExport) as error:
            return _failed(str(error))

    def _verify(
        self, settings: ServiceSettings, options: argparse.Namespace, secret: SecretKey
    ) -> int:
        if options.file:
            return _verify_file(options.file, secret, as_json=options.json)
        subject = getattr(options, self.noun)
        key = ChainKey.of(self.trail.service, secret)
        with self._opened(settings, key, read_only=True) as database:
            found = verify(database, self.trail, key, subject=subject)
            if options.heads:
                compared = self._compare(database, options.heads, secret)
                found.heads = compared.heads
                found.heads_at = compared.at.isoformat(timespec="seconds")
                found.damages += compared.damages
        if subject and not found.histories:
            return _failed(f"there is no {self.noun} {subject}")
        return _told([found], as_json=options.json)

    def _compare(self, database: Database, path: Path, secret: SecretKey) -> heads.Comparison:
        try:
            with path.open(encoding="utf-8") as lines:
                return heads.compare(
                    lines,
                    self._source(database),
                    key=ChainKey.of(self.trail.service, secret),
                    line_key=ChainKey.of(file.EXPORT, secret),
                )
        except (file.FileDamaged, UnicodeDecodeError) as error:
            raise CannotCompare(f"{path}: {error}") from error

    def _source(self, database: Database) -> heads.Source:
        return heads.Source(
            self.trail.service, instance_of(database), Histories(database, self.trail)
        )

    def _heads(
        self, settings: ServiceSettings, options: argparse.Namespace, secret: SecretKey
    ) -> int:
        key = ChainKey.of(self.trail.service, secret)
        with self._opened(settings, key, read_only=True) as database:
            if options.since:
                damages = self._compare(database, options.since, secret).damages
                if damages:
                    return _failed("\n".join(f"{self.trail.service}: {d}" for d in damages))
            heads.write(
                sys.stdout,
                self._source(database),
                key=key,
                line_key=ChainKey.of(file.EXPORT, secret),
                at=self.clock.now(),
            )
        return 0

    def _export(
        self, settings: ServiceSettings, options: argparse.Namespace, secret: SecretKey
    ) -> int:
        parts = self.parts(settings, options, secret)
        if not parts:
            return _failed(f"there is no {self.noun} {options.subject}")
        export = file.Export(subject=options.subject, at=self.clock.now(), lines=0, parts=parts)
        file.write(sys.stdout, ChainKey.of(file.EXPORT, secret), export)
        damaged = [found for found in verify_export(export, secret) if not found.is_sound]
        for found in damaged:
            sys.stderr.writelines(f"{line}\n" for line in found.lines())
        return 1 if damaged else 0

    def _anonymise(
        self, settings: ServiceSettings, options: argparse.Namespace, secret: SecretKey
    ) -> int:
        now = self.clock.now()
        latest = retained_since(settings.audit_retention_years, now)
        before = options.before or latest
        if before > latest:
            variable = settings.variable("audit_retention_years")
            return _failed(
                f"nothing was made anonymous: entries keep who acted until {latest:%Y-%m-%d}"
                f" ({variable}={settings.audit_retention_years})"
            )
        key = ChainKey.of(self.trail.service, secret)
        with self._opened(settings, key) as database:
            forgotten = anonymise(database, self.trail, key, before=before, now=now)
            self.forget(database, before)
        sys.stdout.write(
            f"{self.trail.service}: who acted is forgotten in {forgotten:,} entries from before"
            f" {before:%Y-%m-%d}\n"
        )
        return 0

    @contextmanager
    def _opened(
        self, settings: ServiceSettings, key: ChainKey, *, read_only: bool = False
    ) -> Iterator[Database]:
        url = settings.effective_database_url()
        with closing(Database(url, pool_size=1, read_only=read_only)) as database:
            require_mark(database, key, service=self.trail.service)
            yield database


def retained_since(years: int, now: datetime) -> datetime:
    """Return the day from which on everything is kept as it is."""
    try:
        day = now.replace(year=now.year - years)
    except ValueError:  # the 29th of February
        day = now.replace(year=now.year - years, day=28)
    return day.replace(hour=0, minute=0, second=0, microsecond=0)


def _verify_file(path: Path, secret: SecretKey, *, as_json: bool) -> int:
    try:
        with path.open(encoding="utf-8") as lines:
            export = file.read(lines, ChainKey.of(file.EXPORT, secret))
    except (file.FileDamaged, UnicodeDecodeError) as error:
        return _failed(f"{path}: {error}")
    found = list(verify_export(export, secret))
    if not as_json:
        at = export.at.isoformat(timespec="seconds")
        sys.stdout.write(
            f"{export.subject}, exported at {at}, {export.lines} lines; rows of other"
            " tables are as they were then, the chain does not prove them\n"
        )
    return _told(found, as_json=as_json)


def _told(found: Sequence[Verification], *, as_json: bool) -> int:
    for each in found:
        lines = [each.json()] if as_json else each.lines()
        sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0 if all(each.is_sound for each in found) else 1


def _failed(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1

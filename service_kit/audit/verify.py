"""Verifying histories: those in a database, on a running system too, and those in a file."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

from service_kit.audit import file
from service_kit.audit.chain import ChainKey
from service_kit.audit.damage import Damage, first_damage
from service_kit.audit.history import BATCH, Histories, Page, anonymised_before
from service_kit.audit.tables import Trail
from service_kit.database import Database
from service_kit.secrets import SecretKey


@dataclass
class Verification:
    """What was found: of each damaged history the first entry concerned."""

    service: str
    histories: int = 0
    entries: int = 0
    damages: list[Damage] = field(default_factory=list)
    # Notes that persons were made anonymous, which nobody with the key has written.
    forged_notes: int = 0
    # With where how many of them ended, and at which moment that was.
    heads: int = 0
    heads_at: str = ""

    @property
    def is_sound(self) -> bool:
        """Say whether everything is as it was written."""
        return not self.damages and not self.forged_notes

    def lines(self) -> Iterator[str]:
        """Tell people."""
        for damage in self.damages:
            yield f"{self.service}: {damage}"
        if self.forged_notes:
            yield f"{self.service}: {self.forged_notes} notes of anonymised entries are forged"
        if self.heads_at:
            yield f"{self.service}: compared with {self.heads:,} heads of {self.heads_at}"
        yield (
            f"{self.service}: {len(self.damages):,} damaged of {self.histories:,} histories,"
            f" {self.entries:,} entries"
        )

    def json(self) -> str:
        """Tell programs."""
        return json.dumps(asdict(self))


def verify(
    database: Database, trail: Trail, key: ChainKey, *, subject: str = "", batch: int = BATCH
) -> Verification:
    """Verify every history of a trail, or one. Raises StorageUnavailable."""
    histories = Histories(database, trail)
    found = Verification(trail.service)
    pages: Iterable[Page] = histories.pages(batch=batch)
    if subject:
        pages = [histories.page_of(subject)]
    for page in pages:
        # Of the page's moment: who acted may be forgotten meanwhile, and that is noted first.
        limit, forged = anonymised_before(page.notes, key)
        found.forged_notes = max(found.forged_notes, forged)
        for history in page.histories:
            found.histories += 1
            found.entries += len(history.entries)
            damage = first_damage(history, key, anonymised_before=limit)
            if damage:
                found.damages.append(damage)
    return found


def verify_export(export: file.Export, secret: SecretKey) -> Iterator[Verification]:
    """Verify what a file holds of each service, with the keys that the secret makes."""
    for part in export.parts:
        if part.is_empty and not part.is_expected:
            yield Verification(part.service)
            continue
        found = Verification(part.service, histories=1, entries=len(part.history.entries))
        damage = first_damage(
            part.history,
            ChainKey.of(part.service, secret),
            anonymised_before=part.anonymised_before,
        )
        if damage:
            found.damages.append(damage)
        yield found

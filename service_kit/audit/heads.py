"""Where all histories ended at a moment, for keeping where the database's administrator is not.

A history that has been removed with everything that named it leaves no trace in its database, and
one that was put back to an earlier state is as sound as it was then. Both are found by comparing
the database with what was kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, TextIO

from service_kit.audit.chain import ChainKey
from service_kit.audit.damage import REMOVED, Damage
from service_kit.audit.file import (
    END,
    FORMAT,
    FileDamaged,
    Line,
    read_sealed,
    require_kind,
    write_sealed,
)
from service_kit.audit.history import BATCH, Histories, History

KIND: Final = "heads"
PUT_BACK: Final = "put back or replaced"


@dataclass(frozen=True)
class Source:
    """Whose histories these are: a service's, in the database that was given this id."""

    service: str
    instance: str
    histories: Histories


@dataclass(frozen=True)
class Comparison:
    """What was compared, and each history that is gone since or does not go on from there."""

    at: datetime
    heads: int
    damages: Sequence[Damage]


def write(out: TextIO, source: Source, *, key: ChainKey, line_key: ChainKey, at: datetime) -> None:
    """Write where each history ends. A head is shown, not told: who had it could put it back."""
    write_sealed(out, line_key, _lines(source, key, at))


def compare(
    lines: Iterable[str], source: Source, *, key: ChainKey, line_key: ChainKey
) -> Comparison:
    """Compare each history with where it ended. Raises FileDamaged."""
    read = read_sealed(lines, line_key)
    first = next(read)
    require_kind(first, KIND)
    if first["service"] != source.service:
        raise FileDamaged(line=1, problem=f"it is of {first['service']}")
    if first["instance"] != source.instance:
        problem = f"it is of another database, {first['instance']}, and this is {source.instance}"
        raise FileDamaged(line=1, problem=problem)
    kept = (line for line in read if line["is"] != END)
    heads, damages = 0, []
    while page := list(islice(kept, BATCH)):
        found = {h.subject: h for h in source.histories.some([line["subject"] for line in page])}
        for line in page:
            heads += 1
            damage = _compared(found[line["subject"]], line, first["at"], key)
            damages += [damage] if damage else []
    return Comparison(datetime.fromisoformat(first["at"]), heads, damages)


def _lines(source: Source, key: ChainKey, at: datetime) -> Iterator[Line]:
    yield {
        "is": KIND,
        "format": FORMAT,
        "service": source.service,
        "instance": source.instance,
        "at": at.isoformat(timespec="microseconds"),
    }
    for page in source.histories.pages():
        for history in page.histories:
            if history.head:
                shown = key.shown(history.head)
                yield {
                    "is": "head",
                    "subject": history.subject,
                    "count": shown.count,
                    "head": shown.seal.hex(),
                }


def _compared(history: History, kept: Line, at: str, key: ChainKey) -> Damage | None:
    subject, count = history.subject, int(kept["count"])
    if len(history.entries) < count:
        shows = f"{count} entries were there at {at}, found {len(history.entries)}"
        return Damage(subject, len(history.entries) + 1, REMOVED, shows)
    if count == 0:
        return None
    end = key.head(subject, count, history.entries[count - 1].seal)
    if key.shown(end).seal.hex() != kept["head"]:
        return Damage(subject, count, PUT_BACK, f"another one was there at {at}")
    return None

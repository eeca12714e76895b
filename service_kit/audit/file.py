"""Exported histories: one JSON object a line, each sealed after the one before.

The last line says that it is the last. So a line that was changed, taken out, added or moved is
found without the database; what the entries themselves tell is sealed once more by their chain.
"""

import hmac
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, TextIO

from service_kit.audit.chain import ChainKey, Head
from service_kit.audit.history import Actor, Entry, History

FORMAT: Final = 1
# Whose key seals the lines: that of no service.
EXPORT: Final = "export"
END: Final = "end"

Line = dict[str, Any]


class FileDamaged(Exception):
    """A line is not as it was written, or missing."""

    def __init__(self, *, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line


@dataclass(frozen=True)
class Part:
    """What one service knows of a subject: rows by what they are, and the history.

    Entries from before `anonymised_before` need not say who acted. A part that is empty is
    damage, unless the service need not know the subject: `is_expected` says which.
    """

    service: str
    history: History
    anonymised_before: datetime | None
    rows: Sequence[tuple[str, Mapping[str, object]]] = ()
    is_expected: bool = True

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing."""
        return not (self.rows or self.history.entries or self.history.head)


@dataclass(frozen=True)
class Export:
    """What a file holds."""

    subject: str
    at: datetime
    lines: int
    parts: Sequence[Part] = field(default=())


def write(out: TextIO, key: ChainKey, export: Export) -> None:
    """Write an export."""
    write_sealed(out, key, _lines(export))


def write_sealed(out: TextIO, key: ChainKey, lines: Iterable[Line]) -> None:
    """Write lines, and one that says that they are all."""
    seal = b""
    for number, content in enumerate(chain(lines, [{"is": END}]), start=1):
        line = {"line": number, **content}
        seal = key.line(_canonical(line), after=seal)
        out.write(json.dumps({**line, "seal": seal.hex()}) + "\n")


def read(lines: Iterable[str], key: ChainKey) -> Export:
    """Read an export. Raises FileDamaged."""
    first, *others = read_sealed(lines, key)
    require_kind(first, "export")
    return Export(
        subject=first["subject"],
        at=datetime.fromisoformat(first["at"]),
        lines=1 + len(others),
        parts=_parts(first["subject"], others),
    )


def require_kind(first: Line, kind: str) -> None:
    """Raise FileDamaged unless the first line begins a file of a kind that is known here."""
    if first["is"] != kind or first.get("format") != FORMAT:
        raise FileDamaged(line=1, problem=f"it does not begin {kind} of a format known here")


def _lines(export: Export) -> Iterator[Line]:
    at = _json(export.at)
    yield {"is": "export", "format": FORMAT, "subject": export.subject, "at": at}
    for part in export.parts:
        service = {"service": part.service}
        for what, row in part.rows:
            yield {"is": what, **service, "row": {name: _json(v) for name, v in row.items()}}
        for entry in part.history.entries:
            yield {"is": "entry", **service, **_entry(entry)}
        head = part.history.head
        yield {
            "is": "head",
            **service,
            "count": head.count if head else None,
            "head": head.seal.hex() if head else None,
            "anonymised_before": _json(part.anonymised_before),
            "is_expected": part.is_expected or not part.is_empty,
        }


def _entry(entry: Entry) -> Line:
    actor = entry.actor
    return {
        "sequence": entry.sequence,
        "facts": {name: _json(fact) for name, fact in entry.facts.items()},
        "seal_version": entry.version,
        "entry_seal": entry.seal.hex(),
        "actor": actor
        and {"salt": actor.salt.hex(), "id": actor.id, "on_behalf_of": actor.on_behalf_of},
    }


def read_sealed(lines: Iterable[str], key: ChainKey) -> Iterator[Line]:
    """Read lines up to the last, which is one of them. Raises FileDamaged."""
    seal, number, is_over = b"", 0, False
    for number, text in enumerate(lines, start=1):
        if is_over:
            raise FileDamaged(line=number, problem="it was added behind the end")
        try:
            line = json.loads(text, object_pairs_hook=_once_each)
            told = bytes.fromhex(line.pop("seal"))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise FileDamaged(line=number, problem="it is no sealed line") from None
        seal = key.line(_canonical(line), after=seal)
        if not hmac.compare_digest(seal, told):
            problem = "it was changed, or another one stood before it, or the key is another one"
            raise FileDamaged(line=number, problem=problem)
        is_over = line["is"] == END
        yield line
    if not is_over:
        raise FileDamaged(line=number + 1, problem="it is missing, the file was cut")


def _once_each(members: list[tuple[str, Any]]) -> Line:
    # Who reads the line may see the first of two, and the seal would cover the second.
    if len(dict(members)) < len(members):
        raise ValueError("a member is there twice")
    return dict(members)


def _parts(subject: str, lines: Sequence[Line]) -> list[Part]:
    entries: defaultdict[str, list[Entry]] = defaultdict(list)
    parts = []
    for line in lines:
        if line["is"] == "entry":
            entries[line["service"]].append(_read_entry(line))
        elif line["is"] == "head":
            head = None if line["head"] is None else Head(line["count"], _bytes(line["head"]))
            before = line["anonymised_before"]
            parts.append(
                Part(
                    service=line["service"],
                    history=History(
                        subject, head, tuple(entries[line["service"]]), is_exported=True
                    ),
                    anonymised_before=before and datetime.fromisoformat(before),
                    is_expected=line["is_expected"],
                )
            )
    return parts


def _read_entry(line: Line) -> Entry:
    facts, actor = line["facts"], line["actor"]
    return Entry(
        sequence=line["sequence"],
        facts={**facts, "at": datetime.fromisoformat(facts["at"])},
        version=line["seal_version"],
        seal=_bytes(line["entry_seal"]),
        actor=actor and Actor(_bytes(actor["salt"]), actor["id"], actor["on_behalf_of"]),
    )


def _canonical(line: Line) -> str:
    # A file that was only laid out anew is still the same.
    return json.dumps(line, sort_keys=True, separators=(",", ":"))


def _json(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text)

"""Finding what was done to a history behind its back, and naming the first entry concerned.

The seals say that something was done and where; what it was is told from what is left. Whoever
changes rows by hand can make one thing look like another, but not like nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service_kit.audit.chain import VERSION, ChainKey, Head
from service_kit.audit.history import Entry, History

CHANGED = "changed"
REMOVED = "removed"
ADDED = "added"
REORDERED = "reordered"
# What is left cannot tell the two apart.
CUT = "removed, or the head was changed"


@dataclass(frozen=True)
class Damage:
    """What was done to a history first: to the entry at which position, and how it shows."""

    subject: str
    position: int
    what: str
    shows: str

    def __str__(self) -> str:
        return f"{self.subject}: entry {self.position} was {self.what}: {self.shows}"


def first_damage(
    history: History, key: ChainKey, *, anonymised_before: datetime | None = None
) -> Damage | None:
    """Return what was done to the first entry that is not as it was written; None if all are.

    Entries from before `anonymised_before` need not say who acted.
    """
    return _Examination(history, key, anonymised_before).first_damage()


class _Examination:
    def __init__(self, history: History, key: ChainKey, anonymised_before: datetime | None) -> None:
        self._history = history
        self._key = key
        self._anonymised_before = anonymised_before
        self._genuine, self._end = self._follow()

    def first_damage(self) -> Damage | None:
        """Compare what stands at each place with what was written there."""
        head = self._history.head
        for position, entry in enumerate(self._history.entries, start=1):
            if position > len(self._genuine):
                return self._after_the_chain(position, entry)
            written = self._genuine[position - 1]
            if entry is not written:
                if entry in self._genuine:
                    return self._damage(position, REORDERED, f"{_name(entry)} stands in its place")
                return self._damage(position, ADDED, f"{_name(entry)} was not written there")
            if entry.position != position:
                return self._renumbered(position, entry)
            if shows := self._wrong_actor(entry):
                return self._damage(position, CHANGED, shows)
        if head is None:
            shows = "the row that says how many entries there were is not there"
            return self._damage(len(self._genuine) + 1, REMOVED, shows)
        if head != self._expected_head():
            return self._wrong_head(head)
        return None

    def _expected_head(self) -> Head:
        return self._key.shown(self._end) if self._history.is_exported else self._end

    def _follow(self) -> tuple[list[Entry], Head]:
        """Find the entries in the order in which they were written, as far as the seals lead."""
        end = self._key.beginning(self._history.subject)
        left = list(self._history.entries)
        genuine: list[Entry] = []
        while (found := self._next(left, end)) is not None:
            entry = left.pop(found)
            genuine.append(entry)
            end = self._key.head(self._history.subject, end.count + 1, entry.seal)
        return genuine, end

    def _next(self, left: Sequence[Entry], end: Head) -> int | None:
        # At once, unless there is something to find.
        return next((n for n, entry in enumerate(left) if self._fits(entry, end)), None)

    def _fits(self, entry: Entry, end: Head) -> bool:
        return entry.version == VERSION and entry.seal == self._seal_at(entry, end)

    def _seal_at(self, entry: Entry, end: Head) -> bytes:
        """Return the seal that the entry's facts have at the place after an end."""
        facts = {**entry.facts, "position": end.count + 1}
        return self._key.seal(facts, after=end.seal)

    def _after_the_chain(self, position: int, entry: Entry) -> Damage:
        """Say what became of the entry that was written next, or what stands behind the last."""
        head, entries = self._history.head, self._history.entries
        if head is not None and head.seal == self._expected_head().seal:
            return self._damage(position, ADDED, f"{_name(entry)} stands behind the last one")
        seals = {each.seal for each in entries}
        for other in entries:
            if other is not entry and self._seal_at(other, self._end) in seals:
                return self._damage(position, REORDERED, f"{_name(other)} tells what was there")
        fewer = head is not None and len(entries) < head.count
        if fewer or all(other.position != position for other in entries):
            return self._damage(position, REMOVED, f"{_name(entry)} stands in its place")
        more = head is not None and len(entries) > head.count
        if more:
            return self._damage(position, ADDED, f"{_name(entry)} has no seal of ours")
        return self._damage(position, CHANGED, f"{_name(entry)} does not fit its seal")

    def _renumbered(self, position: int, entry: Entry) -> Damage:
        claimed = sorted(each.position for each in self._history.entries)
        moved = claimed == list(range(1, len(claimed) + 1))
        what = REORDERED if moved else CHANGED
        return self._damage(position, what, f"{_name(entry)} claims position {entry.position}")

    def _wrong_actor(self, entry: Entry) -> str:
        person, limit = entry.person, self._anonymised_before
        if entry.actor is None or person is None:
            if limit is not None and entry.at < limit:
                return ""
            return f"{_name(entry)} does not say any more who acted"
        if self._key.reference(person, entry.actor.salt) != entry.facts["actor_reference"]:
            return f"{_name(entry)} was not written for the actor beside it"
        return ""

    def _wrong_head(self, head: Head) -> Damage:
        found = len(self._history.entries)
        if head.count > found:
            return self._damage(found + 1, REMOVED, f"there were {head.count}, found {found}")
        shows = f"the head of the {found} that are there is another one"
        return self._damage(found + 1, CUT, shows)

    def _damage(self, position: int, what: str, shows: str) -> Damage:
        return Damage(self._history.subject, position, what, shows)


def _name(entry: Entry) -> str:
    told = entry.facts.get("event_type", "")
    return f"{told} (sequence {entry.sequence})"

"""The chain of a history: each entry is sealed together with the seal of the one before.

An entry's seal is a keyed hash over its facts and the head before it. The head is a keyed hash
over the last entry's seal and its position; it replaces the one before and is in no other row.
So without the key nobody can write an entry or a head, and what the tables tell is not enough to
cut a history back either. Old copies are: whoever finds the row of then in a backup, in the log of
the database or in what it has not yet cleaned up, can put the history back to that moment. What
finds that is where the histories ended, kept elsewhere.

FIPS 198-1 (HMAC) with SHA-256.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from service_kit.mac import hmac_sha256
from service_kit.secrets import SecretKey

# Of how facts become bytes and bytes become a seal. A change of either is a new version.
VERSION: Final = 1
SEAL_BYTES: Final = 32
SALT_BYTES: Final = 16

_REFERENCE_DIGITS: Final = 32


@dataclass(frozen=True)
class Head:
    """Where a history ends: how many entries it has, and the seal over the last of them."""

    count: int
    seal: bytes


@dataclass(frozen=True)
class Person:
    """Who acted, and for whom: what an entry refers to and does not hold."""

    role: str
    id: str
    on_behalf_of: str


class ChainKey:
    """Makes the seals of one service's histories."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of(cls, service: str, secret: SecretKey) -> "ChainKey":
        """Derive the key of a service."""
        return cls(secret.derive(f"{service}-audit"))

    def mark(self, instance: str) -> bytes:
        """Return what tells, in the database of this id, with which secret it is sealed."""
        return self._mac("instance", instance.encode())

    def beginning(self, subject: str) -> Head:
        """Return the head of a history that has no entry yet."""
        return self.head(subject, 0, b"")

    def head(self, subject: str, count: int, last_seal: bytes) -> Head:
        """Return the head after an entry with this seal."""
        return Head(count, self._mac("head", subject.encode(), _number(count), last_seal))

    def seal(self, facts: Mapping[str, object], *, after: bytes) -> bytes:
        """Seal an entry's facts, each with its name, after the head before it."""
        parts = [
            part for name in sorted(facts) for part in (name.encode(), _text(facts[name]).encode())
        ]
        return self._mac("entry", _number(VERSION), after, *parts)

    def reference(self, person: Person, salt: bytes) -> str:
        """Make the opaque reference to a person.

        Without the salt, which is kept beside the person and goes with it, not even who has the
        key can tell whom it refers to.
        """
        who = (person.role.encode(), person.id.encode(), person.on_behalf_of.encode())
        return f"act_{self._mac('actor', salt, *who).hex()[:_REFERENCE_DIGITS]}"

    def anonymisation(self, before: datetime, at: datetime) -> bytes:
        """Seal the note that persons were made anonymous."""
        return self._mac("anonymisation", _text(before).encode(), _text(at).encode())

    def shown(self, head: Head) -> Head:
        """Return what tells a head from any other, for a file: who had it could put it back."""
        return Head(head.count, self._mac("shown", head.seal))

    def line(self, content: str, *, after: bytes) -> bytes:
        """Seal a line of an exported file after the seal of the one before."""
        return self._mac("line", after, content.encode())

    def _mac(self, purpose: str, *parts: bytes) -> bytes:
        # Each part with its length: what one ends with must not be what another begins with.
        content = b"".join(
            len(part).to_bytes(4, "big") + part for part in (purpose.encode(), *parts)
        )
        return hmac_sha256(self._key, content)


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _text(fact: object) -> str:
    if isinstance(fact, datetime):
        return fact.astimezone(UTC).isoformat(timespec="microseconds")
    return str(fact)

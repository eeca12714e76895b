"""Sends a service one spoiled call after the other, and judges every answer."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import grpc

from service_kit.principals import PEER_IDS, ROLES
from service_kit.status import refusal_of
from tests.client import Caller, Metadata
from tests.fuzz import mutations
from tests.fuzz.known import Known
from tests.fuzz.targets import Target
from tests.fuzz.verdict import problem_with

_TIMEOUTS: Final = (20.0, 20.0, 20.0, 20.0, 1.5, 0.3, 0.02)
_SHOWN_BYTES: Final = 2_000


@dataclass(frozen=True)
class SpoiledCall:
    """A call to be made: everything that goes over the wire."""

    target: Target
    body: bytes
    metadata: Metadata
    timeout: float

    def __str__(self) -> str:
        shown = self.body[:_SHOWN_BYTES].hex() + ("…" if len(self.body) > _SHOWN_BYTES else "")
        return (
            f"{self.target.method}, timeout {self.timeout} s, metadata {list(self.metadata)!r},"
            f" {len(self.body)} bytes: {shown}"
        )


class NotClean(AssertionError):
    """A service answered as none should. The sentence has all that it takes to try again."""


class Fuzzer:
    """Fuzzes one server. With the same seed and the same answers it makes the same calls.

    `roles` are those that its callers take. `outcomes` counts the answers by code and reason.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        targets: Sequence[Target],
        *,
        seed: int,
        known: Known,
        roles: Collection[str] = ROLES,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self._channel = channel
        self._targets = targets
        self._seed = seed
        self._known = known
        self._roles = roles

    def run(self, number: int) -> None:
        """Make the call of this number. Raises NotClean."""
        call = self.call(number)
        try:
            answer = call.target.send(self._channel, call.body, call.metadata, call.timeout)
        except grpc.RpcError as error:
            if problem := problem_with(error, call.target.reasons):
                sentence = f"seed {self._seed}, call {number}: {problem}: {call}"
                raise NotClean(sentence) from error
            failed: Any = error
            outcome = f"{failed.code().name} {refusal_of(error).reason}".strip()
        else:
            if call.target.roles:
                self._known.read(answer)
            outcome = "OK"
        self.outcomes[outcome] += 1

    def call(self, number: int) -> SpoiledCall:
        """Make up the call of this number."""
        random = Random(f"{self._seed}/{number}")  # noqa: S311 - it must be repeatable
        target = random.choice(self._targets)
        # Keys that have been used are there as well.
        self._known.learn("idempotency_key", f"key-{random.getrandbits(64):016x}x")
        body = mutations.message(random, target.request, self._known).SerializeToString()
        metadata: Metadata = self._caller(random, target).metadata() if target.roles else ()
        # One thing at a time: what is wrong twice is found at the first.
        match random.randrange(8):
            case 0 | 1:
                body = random.choice(mutations.BODIES)(random, body)
            case 2:
                metadata = mutations.metadata(random, metadata)
            case _:
                pass
        return SpoiledCall(target, body, metadata, random.choice(_TIMEOUTS))

    def _caller(self, random: Random, target: Target) -> Caller:
        permitted = sorted(set(target.roles).intersection(self._roles))
        right = permitted and random.random() < 0.9
        role = random.choice(permitted if right else (*self._roles, "admin"))
        if role == "customer":
            return Caller(role, random.choice(("fuzz-0", "fuzz-1")))
        return Caller(role, PEER_IDS.get(role, f"fuzz-{role}"))

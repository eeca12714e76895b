"""What any service can refuse a call for, as facts.

    ServiceError
    ├── InvalidRequest            a field is missing, malformed or out of its limit
    ├── CardDataNotAccepted       a text field holds a card number
    ├── InvalidPageToken          the page token is not ours, or for other arguments
    ├── IdempotencyKeyReused      the key belongs to another request
    ├── RequestInProgress         the first call with this key is still running
    ├── ConcurrentUpdate          the rows kept changing; nothing was done
    ├── StorageUnavailable        the database does not answer
    ├── CredentialsMissing        no identity, or an unreadable one
    ├── RoleNotAllowed            the role may not call the method
    ├── DeadlineTooShort          too little time to begin
    ├── Overloaded                too many calls, of all callers together
    ├── RateLimited               more calls of this caller than one may make
    └── ServerDraining            the server is about to stop

The sentence of an exception is for the log; a client gets its attributes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# A second, and a fifth of it more or less.
_RETRY_SECONDS: Final = (0.8, 1.2)


@dataclass(frozen=True)
class FieldViolation:
    """One field of a request and the limit it breaks; never its value."""

    field: str
    description: str


class ServiceError(Exception):
    """Superclass of everything below. Never raised itself."""


class InvalidRequest(ServiceError):
    """Fields of the request are missing, malformed or outside their limits."""

    def __init__(self, *, violations: Sequence[FieldViolation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = tuple(violations)


class CardDataNotAccepted(ServiceError):
    """Text fields hold what looks like a card number."""

    def __init__(self, *, fields: Sequence[str]) -> None:
        super().__init__(f"card data in {', '.join(fields)}")
        self.fields = tuple(fields)


class InvalidPageToken(ServiceError):
    """The page token was not made here for this caller and these arguments."""

    def __init__(self) -> None:
        super().__init__("the page token is not one for this caller and these arguments")


class IdempotencyKeyReused(ServiceError):
    """The key belongs to another method or to other fields."""

    def __init__(self, *, method: str) -> None:
        super().__init__(f"the idempotency key belongs to another request of {method}")
        self.method = method


class RequestInProgress(ServiceError):
    """The first call with this key is still running."""

    def __init__(self, *, method: str) -> None:
        super().__init__(f"the first {method} with this idempotency key is still running")
        self.method = method


class ConcurrentUpdate(ServiceError):
    """Other transactions kept winning; this one has changed nothing."""

    def __init__(self, *, attempts: int) -> None:
        super().__init__(f"lost the race for the same rows {attempts} times")
        self.attempts = attempts


class StorageUnavailable(ServiceError):
    """The database cannot be reached, cannot write, or did not confirm a commit."""

    def __init__(self) -> None:
        super().__init__("the database does not answer; the same request may be sent again")


class CredentialsMissing(ServiceError):
    """The call carries no identity, or one that cannot be read."""

    def __init__(self, *, header: str, problem: str = "is required") -> None:
        super().__init__(f"metadata {header} {problem}")
        self.header = header


class RoleNotAllowed(ServiceError):
    """The caller's role may not call the method."""

    def __init__(self, *, role: str, method: str) -> None:
        who = f"role {role}" if role else "a caller without a role"
        super().__init__(f"{who} may not call {method}")
        self.role = role
        self.method = method


class DeadlineTooShort(ServiceError):
    """The caller's deadline leaves too little time to begin. Nothing was started."""

    def __init__(self, *, minimum_seconds: float) -> None:
        super().__init__(f"the deadline leaves less than {minimum_seconds} s")
        self.minimum_seconds = minimum_seconds


class Overloaded(ServiceError):
    """There is no place for the call.

    `retry_seconds` is when it may be worth another try: not the same for all who are refused, or
    they would all come back in the same moment.
    """

    def __init__(self) -> None:
        super().__init__("the server has as many calls of this kind as it can take")
        # nosemgrep: guessable-randomness - a pause, as in time.sleep
        self.retry_seconds = random.uniform(*_RETRY_SECONDS)  # noqa: S311


class RateLimited(ServiceError):
    """The caller has had as many calls as one may have.

    `retry_seconds` is when the next one may come.
    """

    def __init__(self, problem: str, *, retry_seconds: float = 1.0) -> None:
        super().__init__(problem)
        self.retry_seconds = retry_seconds


class ServerDraining(ServiceError):
    """The server is about to stop and does not wait for this call's end."""

    def __init__(self) -> None:
        super().__init__("the server is about to stop; call again and go on where this ended")


class RecordedRefusal(Exception):
    """A refusal that was stored with its change, raised as it was stored.

    `status` is a serialized `google.rpc.Status`.
    """

    def __init__(self, *, status: bytes) -> None:
        super().__init__("a stored refusal")
        self.status = status

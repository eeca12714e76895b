"""Which exception becomes which status: one row for each, nothing anywhere else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from service_kit import errors
from service_kit.errors import FieldViolation
from service_kit.status import (
    Status,
    bad_request,
    build_status,
    request_info,
    retry_info,
)

# Long enough for the other call to finish, short enough for a person to wait.
ABORTED_RETRY_SECONDS: Final = 0.5
UNAVAILABLE_RETRY_SECONDS: Final = 1.0


def _nothing(_error: Any) -> dict[str, str]:
    return {}


def _no_details(_error: Any) -> Sequence[Message]:
    return ()


@dataclass(frozen=True)
class ErrorRow:
    """How one exception is told to a client.

    `reason` is a value of `checkout.error.v1.ErrorReason` without its prefix. `metadata` and
    `details` are computed from the exception's attributes.
    """

    code: grpc.StatusCode
    reason: str
    metadata: Callable[[Any], Mapping[str, str]] = _nothing
    details: Callable[[Any], Sequence[Message]] = _no_details


class ErrorTable:
    """Looks up the row of an exception by its class, then by its superclasses."""

    def __init__(self, rows: Mapping[type[Exception], ErrorRow]) -> None:
        self._rows = MappingProxyType({**KIT_ROWS, **rows})

    @property
    def rows(self) -> Mapping[type[Exception], ErrorRow]:
        """Every row, the common ones included."""
        return self._rows

    def code_of(self, reason: str) -> str:
        """Return the name of the status code that a reason comes with."""
        codes = {row.reason: row.code.name for row in self._rows.values()}
        # Of a bug, which has no row.
        return codes.get(reason, grpc.StatusCode.INTERNAL.name)

    def status(self, error: Exception) -> Status | None:
        """Say how the exception is told, or None for one that has no row: a bug."""
        for kind in type(error).__mro__:
            if row := self._rows.get(kind):
                return build_status(
                    row.code,
                    reason=row.reason,
                    message=str(error) or row.reason,
                    metadata=row.metadata(error),
                    details=row.details(error),
                )
        return None


def internal(trace_id: str) -> Status:
    """Tell of a bug: the trace id to look for, and nothing else."""
    return build_status(
        grpc.StatusCode.INTERNAL,
        reason="INTERNAL",
        message="internal error",
        metadata={"trace_id": trace_id},
        details=[request_info(trace_id)],
    )


def _field_of(description: str, *fields: str) -> Sequence[Message]:
    return [bad_request([FieldViolation(field, description) for field in fields])]


def _retry(seconds: float) -> Callable[[Any], Sequence[Message]]:
    return lambda _error: [retry_info(seconds)]


KIT_ROWS: Final[Mapping[type[Exception], ErrorRow]] = MappingProxyType(
    {
        errors.InvalidRequest: ErrorRow(
            grpc.StatusCode.INVALID_ARGUMENT,
            "VALIDATION_FAILED",
            metadata=lambda e: {"field": e.violations[0].field},
            details=lambda e: [bad_request(e.violations)],
        ),
        errors.CardDataNotAccepted: ErrorRow(
            grpc.StatusCode.INVALID_ARGUMENT,
            "CARD_DATA_NOT_ACCEPTED",
            metadata=lambda e: {"field": e.fields[0]},
            details=lambda e: _field_of("must not hold a card number", *e.fields),
        ),
        errors.InvalidPageToken: ErrorRow(
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_PAGE_TOKEN",
            metadata=lambda _: {"field": "page_token"},
            details=lambda _: _field_of(
                "must be the next_page_token of a call with the same arguments",
                "page_token",
            ),
        ),
        errors.IdempotencyKeyReused: ErrorRow(
            grpc.StatusCode.INVALID_ARGUMENT,
            "IDEMPOTENCY_KEY_REUSED",
            metadata=lambda e: {"method": e.method},
            details=lambda _: _field_of("belongs to another request", "idempotency_key"),
        ),
        errors.CredentialsMissing: ErrorRow(
            grpc.StatusCode.UNAUTHENTICATED,
            "CREDENTIALS_MISSING",
            metadata=lambda e: {"header": e.header},
        ),
        errors.RoleNotAllowed: ErrorRow(
            grpc.StatusCode.PERMISSION_DENIED,
            "ROLE_NOT_ALLOWED",
            metadata=lambda e: {"role": e.role, "method": e.method},
        ),
        errors.RequestInProgress: ErrorRow(
            grpc.StatusCode.ABORTED,
            "REQUEST_IN_PROGRESS",
            metadata=lambda e: {"method": e.method},
            details=_retry(ABORTED_RETRY_SECONDS),
        ),
        errors.ConcurrentUpdate: ErrorRow(
            grpc.StatusCode.ABORTED,
            "CONCURRENT_UPDATE",
            metadata=lambda e: {"attempts": str(e.attempts)},
            details=_retry(ABORTED_RETRY_SECONDS),
        ),
        errors.StorageUnavailable: ErrorRow(
            grpc.StatusCode.UNAVAILABLE,
            "STORAGE_UNAVAILABLE",
            details=_retry(UNAVAILABLE_RETRY_SECONDS),
        ),
        errors.DeadlineTooShort: ErrorRow(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "DEADLINE_TOO_SHORT",
            metadata=lambda e: {"minimum_seconds": f"{e.minimum_seconds:.1f}"},
        ),
        errors.Overloaded: ErrorRow(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "OVERLOADED",
            details=lambda e: [retry_info(e.retry_seconds)],
        ),
        errors.RateLimited: ErrorRow(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "RATE_LIMITED",
            details=lambda e: [retry_info(e.retry_seconds)],
        ),
        errors.ServerDraining: ErrorRow(
            grpc.StatusCode.UNAVAILABLE,
            "SERVER_DRAINING",
            details=_retry(UNAVAILABLE_RETRY_SECONDS),
        ),
    }
)

"""Which exception becomes which status."""

import grpc
import pytest

from checkout.error.v1 import error_reason_pb2
from service_kit import errors
from service_kit.error_table import KIT_ROWS, ErrorRow, ErrorTable, internal
from service_kit.errors import FieldViolation, ServiceError
from tests.assertions import told

INVALID = grpc.StatusCode.INVALID_ARGUMENT
ABORTED = grpc.StatusCode.ABORTED

# Each error as it is raised, and what a client is told: code, reason, facts.
TOLD = [
    (
        errors.InvalidRequest(
            violations=[FieldViolation("items", "is required"), FieldViolation("etag", "too long")]
        ),
        INVALID,
        "VALIDATION_FAILED",
        {"field": "items"},
    ),
    (
        errors.CardDataNotAccepted(fields=["items[0].sku", "items[0].name"]),
        INVALID,
        "CARD_DATA_NOT_ACCEPTED",
        {"field": "items[0].sku"},
    ),
    (errors.InvalidPageToken(), INVALID, "INVALID_PAGE_TOKEN", {"field": "page_token"}),
    (
        errors.IdempotencyKeyReused(method="PayOrder"),
        INVALID,
        "IDEMPOTENCY_KEY_REUSED",
        {"method": "PayOrder"},
    ),
    (
        errors.CredentialsMissing(header="x-actor-id"),
        grpc.StatusCode.UNAUTHENTICATED,
        "CREDENTIALS_MISSING",
        {"header": "x-actor-id"},
    ),
    (
        errors.RoleNotAllowed(role="customer", method="RefundOrder"),
        grpc.StatusCode.PERMISSION_DENIED,
        "ROLE_NOT_ALLOWED",
        {"role": "customer", "method": "RefundOrder"},
    ),
    (
        errors.RequestInProgress(method="PayOrder"),
        ABORTED,
        "REQUEST_IN_PROGRESS",
        {"method": "PayOrder"},
    ),
    (errors.ConcurrentUpdate(attempts=5), ABORTED, "CONCURRENT_UPDATE", {"attempts": "5"}),
    (errors.StorageUnavailable(), grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE", {}),
    (
        errors.DeadlineTooShort(minimum_seconds=1.5),
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "DEADLINE_TOO_SHORT",
        {"minimum_seconds": "1.5"},
    ),
    (errors.Overloaded(), grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", {}),
    (errors.RateLimited(""), grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", {}),
    (errors.ServerDraining(), grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING", {}),
]


class Melted(Exception):
    """What only the service under test raises."""


class MeltedAway(Melted):
    """Has no row of its own."""


@pytest.mark.requirement("FR-231")
class TestEveryErrorOfTheKit:
    @pytest.mark.parametrize(
        ("error", "code", "reason", "metadata"), TOLD, ids=[type(case[0]).__name__ for case in TOLD]
    )
    def test_is_told_with_code_reason_and_facts(
        self, error: ServiceError, code: grpc.StatusCode, reason: str, metadata: dict[str, str]
    ) -> None:
        refusal = told(ErrorTable({}).status(error), code, reason)

        assert refusal.metadata == metadata
        assert refusal.status.message == (str(error) or reason)

    def test_has_a_row_and_is_in_the_list_above(self) -> None:
        classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
        raised = {kind for kind in classes if issubclass(kind, ServiceError)} - {ServiceError}

        assert raised == set(KIT_ROWS) == {type(error) for error, *_ in TOLD}

    def test_has_a_reason_that_the_contract_knows(self) -> None:
        known = error_reason_pb2.ErrorReason.keys()

        assert {f"ERROR_REASON_{row.reason}" for row in KIT_ROWS.values()} <= set(known)

    def test_that_is_about_fields_names_every_one(self) -> None:
        fields = {
            type(error): set(told(ErrorTable({}).status(error), code, reason).violations)
            for error, code, reason, _ in TOLD
            if code is INVALID
        }

        assert fields == {
            errors.InvalidRequest: {"items", "etag"},
            errors.CardDataNotAccepted: {"items[0].sku", "items[0].name"},
            errors.InvalidPageToken: {"page_token"},
            errors.IdempotencyKeyReused: {"idempotency_key"},
        }

    def test_that_will_pass_says_when_to_try_again(self) -> None:
        for error, code, reason, _ in TOLD:
            if code in {ABORTED, grpc.StatusCode.UNAVAILABLE}:
                assert told(ErrorTable({}).status(error), code, reason).retry_seconds > 0


class TestErrorTable:
    def test_adds_a_services_rows_to_the_common_ones(self) -> None:
        row = ErrorRow(grpc.StatusCode.DATA_LOSS, "MELTED", metadata=lambda e: {"what": e.args[0]})

        table = ErrorTable({Melted: row})

        assert table.rows == {**KIT_ROWS, Melted: row}
        refusal = told(table.status(Melted("ice")), grpc.StatusCode.DATA_LOSS, "MELTED")
        assert refusal.metadata == {"what": "ice"}

    def test_tells_an_error_without_a_row_as_its_superclass(self) -> None:
        table = ErrorTable({Melted: ErrorRow(grpc.StatusCode.DATA_LOSS, "MELTED")})

        told(table.status(MeltedAway()), grpc.StatusCode.DATA_LOSS, "MELTED")

    def test_prefers_an_errors_own_row(self) -> None:
        table = ErrorTable(
            {
                Melted: ErrorRow(grpc.StatusCode.DATA_LOSS, "MELTED"),
                MeltedAway: ErrorRow(grpc.StatusCode.NOT_FOUND, "MELTED_AWAY"),
            }
        )

        told(table.status(MeltedAway()), grpc.StatusCode.NOT_FOUND, "MELTED_AWAY")

    def test_does_not_know_a_bug(self) -> None:
        assert ErrorTable({}).status(ZeroDivisionError("division by zero")) is None


@pytest.mark.requirement("FR-231")
class TestInternal:
    def test_tells_the_trace_id_and_nothing_else(self) -> None:
        refusal = told(internal("a" * 32), grpc.StatusCode.INTERNAL, "INTERNAL")

        assert refusal.metadata == {"trace_id": "a" * 32}
        assert refusal.request_id == "a" * 32
        assert len(refusal.status.details) == 2

"""google.rpc.Status in one place: how a refusal is packed, and unpacked.

Every refusal carries exactly one ErrorInfo (AIP-193). All details together stay under 4 kB:
gRPC replaces the status of a call whose trailers grow beyond its header limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from service_kit.errors import FieldViolation

DOMAIN: Final = "checkout"
DETAILS_BYTES_MAX: Final = 4096
# The sentence travels twice, in the details and beside them, and must not crowd them out.
MESSAGE_CHARACTERS_MAX: Final = 256
VIOLATIONS_MAX: Final = 25

M = TypeVar("M", bound=Message)

Status = status_pb2.Status

# Told to nobody: for the log, and to leave a handler with.
CALLER_GONE: Final = Status(code=grpc.StatusCode.CANCELLED.value[0])


@dataclass(frozen=True)
class Refusal:
    """What another service answered: its code, its reason and the facts beside it."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str]
    violations: tuple[FieldViolation, ...] = ()


def build_status(
    code: grpc.StatusCode,
    *,
    reason: str,
    message: str,
    metadata: Mapping[str, str],
    details: Sequence[Message] = (),
) -> Status:
    """Pack a refusal. Details that would make it too large are left out, last first."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    if len(message) > MESSAGE_CHARACTERS_MAX:
        message = message[: MESSAGE_CHARACTERS_MAX - 1] + "…"
    status = Status(code=code.value[0], message=message)
    for detail in (info, *details):
        status.details.add().Pack(detail)
    while len(status.details) > 1 and status.ByteSize() > DETAILS_BYTES_MAX:
        del status.details[-1]
    return status


def bad_request(violations: Sequence[FieldViolation]) -> Message:
    """List the fields that were wrong, at most 25."""
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
            for v in violations[:VIOLATIONS_MAX]
        ]
    )


def precondition_failure(*, kind: str, subject: str, description: str) -> Message:
    """Name the state that stands in the way, for people."""
    violation = error_details_pb2.PreconditionFailure.Violation(
        type=kind, subject=subject, description=description
    )
    return error_details_pb2.PreconditionFailure(violations=[violation])


def resource_info(*, kind: str, name: str) -> Message:
    """Name the resource that was not found."""
    return error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name)


def retry_info(seconds: float) -> Message:
    """Say how long to wait before the same request is sent again."""
    delay = Duration()
    delay.FromMilliseconds(int(seconds * 1000))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def request_info(request_id: str) -> Message:
    """Name the id under which the logs know this call."""
    return error_details_pb2.RequestInfo(request_id=request_id)


def abort(
    context: grpc.ServicerContext, status: Status, trailers: Sequence[tuple[str, str]]
) -> NoReturn:
    """End the call with the status and the trailers; grpc leaves a handler by an exception."""
    packed = rpc_status.to_status(status)
    # Not abort_with_status: it would drop the trailers that are ours.
    context.set_trailing_metadata((*trailers, *packed.trailing_metadata))
    # nosemgrep: abort-elsewhere - this is the one place
    context.abort(packed.code, packed.details)


def parse(serialized: bytes) -> Status:
    """Read a stored refusal back."""
    return Status.FromString(serialized)


def reason_of(status: Status) -> str:
    """Return the reason of the status' ErrorInfo, or nothing if it has none."""
    return _detail(status, error_details_pb2.ErrorInfo).reason


def metadata_of(status: Status) -> dict[str, str]:
    """Return the facts of the status' ErrorInfo."""
    return dict(_detail(status, error_details_pb2.ErrorInfo).metadata)


def refusal_of(error: grpc.RpcError) -> Refusal:
    """Translate what a stub raised. `reason` is empty if the peer itself did not answer."""
    # What a stub raises is also the call that failed.
    failed = cast("grpc.Call", error)
    try:
        status = rpc_status.from_call(failed) or Status(message=failed.details() or "")
        info = _detail(status, error_details_pb2.ErrorInfo)
        request = _detail(status, error_details_pb2.BadRequest)
    except (ValueError, DecodeError):  # code and details disagree, or are no details: not ours
        return Refusal(code=failed.code(), reason="", message=failed.details() or "", metadata={})
    return Refusal(
        code=failed.code(),
        reason=info.reason if info.domain == DOMAIN else "",
        message=status.message,
        metadata=dict(info.metadata),
        violations=tuple(FieldViolation(v.field, v.description) for v in request.field_violations),
    )


def _detail(status: Status, kind: type[M]) -> M:
    """Return the status' detail of a type; an empty one if it has none."""
    for detail in status.details:
        if detail.TypeName() == kind.DESCRIPTOR.full_name:
            return kind.FromString(detail.value)
    return kind()

"""What a caller sends: metadata, then one message, neither larger than it may be."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from service_kit import card_data
from service_kit.errors import CardDataNotAccepted, FieldViolation, InvalidRequest
from service_kit.patience import NoRequest, WaitingRoom

REQUEST_BYTES_MAX: Final = 64 * 1024
METADATA_BYTES_MAX: Final = 8 * 1024


def text_metadata(context: grpc.ServicerContext) -> Mapping[str, str]:
    """Return the metadata of a call. Keys that end in -bin have bytes: none of them is ours."""
    pairs = context.invocation_metadata()
    return {key: value for key, value in pairs if isinstance(value, str)}


def require_small_metadata(context: grpc.ServicerContext) -> None:
    """Raise InvalidRequest if keys and values together are too long."""
    if sum(len(k) + len(v) for k, v in context.invocation_metadata()) > METADATA_BYTES_MAX:
        raise _invalid("metadata", f"must be at most {METADATA_BYTES_MAX} bytes")


def read_request(
    messages: Iterator[bytes],
    context: grpc.ServicerContext,
    *,
    room: WaitingRoom,
    deserialize: Callable[[bytes], Any],
) -> Any:
    """Wait for the call's one message and return it parsed.

    Raises InvalidRequest, CardDataNotAccepted, and CallerGone if it does not come.
    """
    try:
        body = room.next_message(messages, context)
    except NoRequest:
        raise _invalid("request", "is required: one message") from None
    if len(body) > REQUEST_BYTES_MAX:
        raise _invalid("request", f"must be at most {REQUEST_BYTES_MAX} bytes")
    try:
        request = deserialize(body)
    except DecodeError:
        raise _invalid("request", "is not a message of this method's request type") from None
    # Nearly always there is nothing like it among the bytes, where every text stands as it is.
    if card_data.may_be_in(body) and (fields := card_data.find(request)):
        raise CardDataNotAccepted(fields=fields)
    return request


def _invalid(what: str, description: str) -> InvalidRequest:
    return InvalidRequest(violations=[FieldViolation(what, description)])

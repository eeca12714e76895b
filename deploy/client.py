"""A client of both services: who calls, what came back, what a refusal says."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from checkout.error.v1 import error_details_pb2 as checkout_error_details_pb2

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)

_TIMEOUT_SECONDS: Final = 20
# Longer than a service waits for a call that died with its process.
_PATIENCE_SECONDS: Final = 10
_PAUSE_SECONDS: Final = 0.1
# A detail can be unpacked once the file that describes it is imported.
_DETAIL_FILES: Final = (error_details_pb2, checkout_error_details_pb2)


Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Caller:
    """Who calls."""

    role: str
    id: str

    @property
    def metadata(self) -> Metadata:
        """The caller as services without credentials read it."""
        return (("x-actor-role", self.role), ("x-actor-id", self.id))


@dataclass(frozen=True)
class Answer(Generic[R]):
    """A response, and the metadata that came after it."""

    message: R
    trailers: Mapping[str, Any]

    @property
    def replayed(self) -> bool:
        """Whether it is the stored reply of an earlier call."""
        return self.trailers.get("idempotency-replayed") == "true"

    @property
    def trace_id(self) -> str:
        """The id under which the call is in logs and histories."""
        return str(self.trailers["x-trace-id"])


class Refused(Exception):
    """A call was refused: its code, its message for developers, and its details."""

    def __init__(self, error: grpc.RpcError) -> None:
        # What a stub raises is the ended call as well, which its types do not say.
        ended: Any = error
        self.code: grpc.StatusCode = ended.code()
        self.message: str = ended.details() or ""
        status = rpc_status.from_call(ended)
        self.details = [_unpacked(detail) for detail in status.details] if status else []
        super().__init__(f"{self.code.name} {self.reason} {self.message}")

    @property
    def reason(self) -> str:
        """The reason of its ErrorInfo, the one thing that programs decide by."""
        return str(self.facts("ErrorInfo").get("reason", ""))

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be answered otherwise in a moment."""
        is_aborted = self.code is grpc.StatusCode.ABORTED and bool(self.facts("RetryInfo"))
        return is_aborted or self.code is grpc.StatusCode.UNAVAILABLE

    @property
    def metadata(self) -> dict[str, str]:
        """The facts beside the reason."""
        metadata: dict[str, str] = self.facts("ErrorInfo").get("metadata", {})
        return metadata

    def facts(self, name: str) -> dict[str, Any]:
        """Return the content of the detail of this type; empty if there is none."""
        for detail in self.details:
            if detail.DESCRIPTOR.name == name:
                facts = json_format.MessageToDict(
                    detail,
                    preserving_proto_field_name=True,
                    always_print_fields_with_no_presence=True,
                )
                # A map has no order of its own.
                return facts | {
                    k: dict(sorted(v.items())) for k, v in facts.items() if k == "metadata"
                }
        return {}


# Generic in its stubs only.
def call(rpc: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q, metadata: Metadata) -> Answer[R]:
    """Send the request, for some seconds again while the answer does not last.

    The contract says so, and the idempotency key makes it safe: a service that has just started
    may not have found the other one yet, or may still believe that an earlier call is running.
    Raises Refused.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            response, done = rpc.with_call(request, metadata=metadata, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            refused = Refused(error)
            if not refused.is_passing or time.monotonic() > deadline:
                raise refused from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return Answer(response, dict(done.trailing_metadata() or ()))


def flat(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """List the leaves of nested content, each with the name it is found under."""
    match content:
        case dict():
            for name, value in content.items():
                yield from flat(value, (*path, name))
        case [] | "":
            yield path[-1], "(none)"
        case [dict(), *_]:
            for value in content:
                yield from flat(value, path)
        case list():
            yield path[-1], ", ".join(map(str, content))
        case _:
            yield path[-1], str(content)


def _unpacked(packed: Any) -> Message:
    descriptor = descriptor_pool.Default().FindMessageTypeByName(packed.TypeName())
    message = message_factory.GetMessageClass(descriptor)()
    packed.Unpack(message)
    return message

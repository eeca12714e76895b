"""What the tests say about refusals: code, reason and facts, never the sentence.

with refused(grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND") as refusal:
    stub.GetOrder(request)
assert refusal.resource == ("order", request.order_id)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as rpc
from grpc_status import rpc_status

from service_kit.status import Status

DETAILS_BYTES_MAX = 4096

M = TypeVar("M", bound=Message)


class Refusal:
    """A refused call as its client sees it: the status, the metadata before and after it.

    What holds for every refusal is checked when it is read: exactly one ErrorInfo, of our
    domain, and details that fit into the trailers.
    """

    def __init__(self) -> None:
        self.status = Status()
        self.initial: dict[str, Any] = {}
        self.trailers: dict[str, Any] = {}

    def read(self, status: Status) -> None:
        """Take the status, and check what holds for every one."""
        self.status = status
        assert self._info.domain == "checkout"
        assert sum(detail.ByteSize() for detail in status.details) <= DETAILS_BYTES_MAX

    @property
    def code(self) -> grpc.StatusCode:
        return next(code for code in grpc.StatusCode if code.value[0] == self.status.code)

    @property
    def reason(self) -> str:
        return self._info.reason

    @property
    def metadata(self) -> dict[str, str]:
        """The facts beside the reason."""
        return dict(self._info.metadata)

    @property
    def violations(self) -> dict[str, str]:
        """BadRequest: each wrong field with its description."""
        violations = self.detail(rpc.BadRequest).field_violations
        assert len({v.field for v in violations}) == len(violations), "a field is told twice"
        return {v.field: v.description for v in violations}

    @property
    def retry_seconds(self) -> float:
        """RetryInfo: how long to wait."""
        return self.detail(rpc.RetryInfo).retry_delay.ToMilliseconds() / 1000

    @property
    def precondition(self) -> tuple[str, str]:
        """PreconditionFailure: type and subject of its one violation."""
        [violation] = self.detail(rpc.PreconditionFailure).violations
        return violation.type, violation.subject

    @property
    def resource(self) -> tuple[str, str]:
        """ResourceInfo: type and name."""
        info = self.detail(rpc.ResourceInfo)
        return info.resource_type, info.resource_name

    @property
    def request_id(self) -> str:
        """RequestInfo: the id that the logs have."""
        return self.detail(rpc.RequestInfo).request_id

    @property
    def is_replayed(self) -> bool:
        """Whether the service says that this is a stored reply."""
        return self.trailers.get("idempotency-replayed") == "true"

    def details(self, kind: type[M]) -> list[M]:
        """Every detail of this type."""
        name = f"type.googleapis.com/{kind.DESCRIPTOR.full_name}"
        found = [detail.value for detail in self.status.details if detail.type_url == name]
        return [kind.FromString(value) for value in found]

    def detail(self, kind: type[M]) -> M:
        """The one detail of this type, which must be there."""
        [detail] = self.details(kind)
        return detail

    @property
    def _info(self) -> rpc.ErrorInfo:
        return self.detail(rpc.ErrorInfo)


def told(status: Status | None, code: grpc.StatusCode, reason: str) -> Refusal:
    """Check a status that did not travel, and return what it says."""
    assert status is not None
    refusal = Refusal()
    refusal.read(status)
    assert (refusal.code, refusal.reason) == (code, reason)
    return refusal


@contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Iterator[Refusal]:
    """Expect the block's call to be refused so; the facts are there when the block is over."""
    refusal = Refusal()
    with pytest.raises(grpc.RpcError) as raised:
        yield refusal
    call: Any = raised.value
    status = rpc_status.from_call(call)
    assert status is not None, f"{call.code()} without details: {call.details()}"
    refusal.read(status)
    refusal.initial = dict(call.initial_metadata())
    refusal.trailers = dict(call.trailing_metadata())
    assert (refusal.code, refusal.reason) == (code, reason)


def everything_told(error: grpc.RpcError) -> str:
    """Put together all that a refused client was told, in whatever form."""
    call: Any = error
    pairs = (*(call.initial_metadata() or ()), *(call.trailing_metadata() or ()))
    texts = [v.decode("latin-1") if isinstance(v, bytes) else v for _, v in pairs]
    return " ".join((call.details() or "", *texts))

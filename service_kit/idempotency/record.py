"""A keyed request and the final reply that belongs to it."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from service_kit import call
from service_kit.errors import RecordedRefusal

DATABASE = "database"
REDIS = "redis"


@dataclass(frozen=True)
class KeyedRequest:
    """A mutating request under the key its caller chose.

    `method` is the RPC's short name. `fingerprint` is over the method and the request's
    fields: the same key with another fingerprint is another request.
    """

    role: str
    caller: str
    key: str
    method: str
    fingerprint: bytes


_M_co = TypeVar("_M_co", covariant=True)


class _MessageClass(Protocol[_M_co]):
    def FromString(self, serialized: bytes, /) -> _M_co: ...


@dataclass(frozen=True)
class Reply:
    """A final reply: the response's bytes, or those of the google.rpc.Status that refused.

    `replayed_from` names the store it came from; empty for the call that made it.
    """

    ok: bool
    body: bytes
    replayed_from: str = ""

    def message(self, response: _MessageClass[_M_co]) -> _M_co:
        """Return the response message. Raises RecordedRefusal if the reply is a refusal."""
        if self.replayed_from:
            call.current().replayed_from = self.replayed_from
        if not self.ok:
            raise RecordedRefusal(status=self.body)
        return response.FromString(self.body)

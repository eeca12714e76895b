"""Which promises one version of the contract breaks that another has made."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from service_kit.contract.method_contracts import MethodContract

_T = TypeVar("_T", str, tuple[str, str])


@dataclass(frozen=True)
class BrokenPromise:
    """What changed, and for which RPC (`/package.Service/Rpc`)."""

    method: str
    change: str

    def __str__(self) -> str:
        return f"{self.method}: {self.change}"


def broken_promises(
    released: Mapping[str, MethodContract], current: Mapping[str, MethodContract]
) -> list[BrokenPromise]:
    """List what a client of the released contract can no longer rely on, RPC by RPC.

    A new RPC, a further role, or idempotency where none was promised break nothing. A further
    reason does, because a client that handled all of them no longer does; so does a reason or
    a transition that went away, because it may have been waited for.
    """
    return [
        BrokenPromise(method, change)
        for method, promised in released.items()
        for change in _changes(promised, current.get(method))
    ]


def _changes(promised: MethodContract, now: MethodContract | None) -> Iterator[str]:
    if now is None:
        yield "the RPC was removed"
        return
    for arrow in _missing(now.transitions, of=promised.transitions):
        yield f"transition {_drawn(arrow)} was removed"
    for arrow in _missing(promised.transitions, of=now.transitions):
        yield f"transition {_drawn(arrow)} was added"
    for reason in _missing(now.error_reasons, of=promised.error_reasons):
        yield f"error reason {reason} is no longer declared"
    for reason in _missing(promised.error_reasons, of=now.error_reasons):
        yield f"error reason {reason} is newly possible"
    for role in _missing(now.roles, of=promised.roles):
        yield f"role {role} may no longer call it"
    if promised.idempotency not in {"", now.idempotency}:
        yield f"idempotency {promised.idempotency} became {now.idempotency or 'undeclared'}"


def _missing(present: Iterable[_T], *, of: Iterable[_T]) -> list[_T]:
    return sorted(set(of) - set(present))


def _drawn(arrow: tuple[str, str]) -> str:
    return f"{arrow[0] or 'nothing'} → {arrow[1]}"

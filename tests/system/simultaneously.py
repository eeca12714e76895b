"""Calls at the same moment, and calls that are sent again until they get a final answer."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

from service_kit.status import refusal_of
from tests.client import Answer

# After one of these the contract says: send the same request again.
TRANSIENT: Final = frozenset({grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE})

_PATIENCE_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 0.02

Call = Callable[[], Answer]
Outcome = Answer | grpc.RpcError


def outcome_of(call: Call) -> Outcome:
    """Return the answer or the refusal."""
    try:
        return call()
    except grpc.RpcError as error:
        return error


def simultaneously(pool: ThreadPoolExecutor, calls: Sequence[Call]) -> list[Outcome]:
    """Make the calls at the same moment, each on a thread of the pool, and return what came."""
    starting = threading.Barrier(len(calls))

    def run(call: Call) -> Outcome:
        starting.wait()
        return outcome_of(call)

    return list(pool.map(run, calls))


def final_outcome(call: Call) -> Outcome:
    """Send the same request again for as long as the answer is not final."""
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        outcome = outcome_of(call)
        if not is_transient(outcome):
            return outcome
        assert time.monotonic() < give_up_at, f"still {reason_of(outcome)}"
        time.sleep(_PAUSE_SECONDS)


def is_transient(outcome: Outcome) -> bool:
    """Say whether the same request may get another answer."""
    return isinstance(outcome, grpc.RpcError) and refusal_of(outcome).code in TRANSIENT


def reason_of(outcome: Outcome) -> str:
    """Return the reason of a refusal, `OK` for an answer."""
    return refusal_of(outcome).reason if isinstance(outcome, grpc.RpcError) else "OK"


def reply_bytes(outcome: Outcome) -> bytes:
    """Return what the outcome came as: the response, or the refusal's status with its details."""
    if isinstance(outcome, Answer):
        return outcome.body
    failed: Any = outcome
    details: bytes = dict(failed.trailing_metadata())["grpc-status-details-bin"]
    return details


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen soon."""
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(_PAUSE_SECONDS)

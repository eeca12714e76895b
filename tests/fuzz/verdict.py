"""Which answers are clean, whatever was sent."""

from collections.abc import Collection
from typing import Final

import grpc

from service_kit.status import refusal_of
from tests.assertions import everything_told

Code = grpc.StatusCode

_CLEAN: Final = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.UNAUTHENTICATED,
        Code.PERMISSION_DENIED,
        Code.NOT_FOUND,
        Code.FAILED_PRECONDITION,
        Code.ABORTED,
        Code.UNAVAILABLE,
        Code.RESOURCE_EXHAUSTED,
        Code.DEADLINE_EXCEEDED,
    }
)
# The transport refuses what is too large and what has run out of time, and gives no reason.
_OF_THE_TRANSPORT: Final = frozenset({Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED})
# What programs say when they stumble.
_TRACES: Final = ("Traceback", 'File "', "Exception", "Error(", "sqlalchemy", "psycopg", "sqlite")


def problem_with(error: grpc.RpcError, declared: Collection[str]) -> str:
    """Say what is wrong with a refusal; empty if it is clean.

    `declared` are the reasons that the RPC may give; an RPC without any gives none.
    """
    refusal = refusal_of(error)
    if refusal.code not in _CLEAN:
        return f"answered {refusal.code.name}: {refusal.message}"
    if declared and not refusal.reason and refusal.code not in _OF_THE_TRANSPORT:
        return f"answered {refusal.code.name} without a reason: {refusal.message}"
    if declared and refusal.reason and refusal.reason not in declared:
        return f"answered {refusal.reason}, which is not declared"
    told = everything_told(error)
    found = [trace for trace in _TRACES if trace in told]
    return f"told of {', '.join(found)}" if found else ""

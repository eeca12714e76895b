"""One trace across services: W3C Trace Context (https://www.w3.org/TR/trace-context/)."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, Self

from service_kit.randomness import random_bytes

TRACEPARENT: Final = "traceparent"
TRACE_ID: Final = "x-trace-id"

_SAMPLED: Final = "01"
# Section 3.2: version ff is invalid; a version newer than 00 may go on after the flags.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<parent_id>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_HEX_32: Final = re.compile(r"[0-9a-fA-F]{32}")


class TraceContext(NamedTuple):
    """Where this call stands in its trace.

    `span_id` is this call's own, `parent_id` the caller's, empty if it sent none.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    flags: str = _SAMPLED

    @classmethod
    def new(cls) -> Self:
        """Begin a trace."""
        return cls(trace_id=random_bytes(16).hex(), span_id=random_bytes(8).hex())

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Go on with the caller's trace: `traceparent`, else `x-trace-id`, else a new one."""
        parent = _TRACEPARENT.fullmatch(metadata.get(TRACEPARENT, ""))
        if parent is not None and _is_valid(parent):
            return cls(
                trace_id=parent["trace_id"],
                span_id=random_bytes(8).hex(),
                parent_id=parent["parent_id"],
                # Sampled and random are the flags we know; others must be sent as zero.
                flags=f"{int(parent['flags'], 16) & 0b11:02x}",
            )
        given = metadata.get(TRACE_ID, "")
        if _HEX_32.fullmatch(given) and not _is_zero(given):
            return cls(trace_id=given.lower(), span_id=random_bytes(8).hex())
        return cls.new()

    def traceparent(self) -> str:
        """Write the header for the next hop, whose parent is this call."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def _is_valid(parent: re.Match[str]) -> bool:
    if parent["version"] == "00" and parent["rest"] is not None:
        return False
    return not _is_zero(parent["trace_id"]) and not _is_zero(parent["parent_id"])


def _is_zero(digits: str) -> bool:
    return not digits.strip("0")

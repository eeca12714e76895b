"""Follow the history as it grows."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from order_service.application.ports import Head, Store, StoredEntry
from service_kit.stream import Stream

HEARTBEAT_SECONDS: Final = 10.0

# At a time in memory, for each stream.
_PAGE: Final = 100


@dataclass(frozen=True)
class Heartbeat:
    """Everything up to this sequence has been sent."""

    sequence: int


class WatchOrderEvents:
    """Tells of every entry from a place in the history on, and now and then that it is there."""

    @dataclass(frozen=True)
    class Query:
        """Entries after which sequence, of which order (empty: all)."""

        after: int
        order_id: str

    def __init__(
        self, *, store: Store, head: Head, heartbeat_seconds: float = HEARTBEAT_SECONDS
    ) -> None:
        self._store = store
        self._head = head
        self._heartbeat_seconds = heartbeat_seconds

    def __call__(self, query: Query, stream: Stream) -> Iterator[StoredEntry | Heartbeat]:
        """Yield entries in order, without an end. Raises what the stream is to end with."""
        seen = query.after
        yield Heartbeat(seen)
        silent_since = time.monotonic()
        while True:
            head = self._head.sequence
            while seen < head:
                page = self._store.settled_entries(
                    after=seen, up_to=head, order_id=query.order_id, limit=_PAGE
                )
                for stored in page:
                    yield stored
                    stream.entries_sent += 1
                    silent_since = time.monotonic()
                seen = page[-1].sequence if len(page) == _PAGE else head
            quiet_seconds = silent_since + self._heartbeat_seconds - time.monotonic()
            if quiet_seconds > 0:
                stream.sleep(quiet_seconds)
            else:
                yield Heartbeat(seen)
                silent_since = time.monotonic()

"""A stream as the code that feeds it sees it."""

import threading


class CallerGone(Exception):
    """Nobody reads the stream any more: the caller has cancelled it, or its connection broke."""


class Stream:
    """Sleeps until there is something to send, and ends when it is told to.

    `entries_sent` is for the log line; whoever feeds the stream counts.
    """

    def __init__(self) -> None:
        self.entries_sent = 0
        self._why_ended: Exception | None = None
        self._bell = threading.Event()

    def sleep(self, seconds: float) -> None:
        """Sleep until woken, at most so long. Raises what the stream is to end with."""
        self._bell.wait(seconds)
        # Before anybody looks around: what is told from now on rings again.
        self._bell.clear()
        self.check()

    def check(self) -> None:
        """Raise what the stream is to end with, if it is to end."""
        if self._why_ended:
            raise self._why_ended

    def wake(self) -> None:
        """Have it look around. From any thread; never waits."""
        self._bell.set()

    def end(self, why: Exception) -> None:
        """Have it end with this, unless it is ending already. From any thread; never waits."""
        self._why_ended = self._why_ended or why
        self._bell.set()

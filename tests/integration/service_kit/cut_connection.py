"""A line to PostgreSQL that breaks after the server has committed and before it says so.

What commits is a COMMIT, or a statement that is a whole transaction.
"""

import threading

from tests.forwarder import Forwarder

# A simple query message: Q, its length, its text, zero.
_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
# How the statement begins that is a whole transaction (service_kit.compiled.execute_together).
_DRAFT = b"WITH step0 AS"
_HEADER_BYTES = 5


class Commits:
    """Tells what commits among what a client sends over a connection.

    A statement is sent as its text (Parse) with its values (Bind), or the text first, under a name,
    and from then on the values alone (PostgreSQL, "Message Formats").
    """

    def __init__(self) -> None:
        self._drafts: set[bytes] = set()

    def has(self, sent: bytes) -> bool:
        """Say whether the answer to it is that something was committed."""
        kind, fields = sent[:1], sent[_HEADER_BYTES:].split(b"\0", 2)
        if kind == b"P" and fields[1].startswith(_DRAFT):
            self._drafts |= {fields[0]} - {b""}
            return not fields[0]
        if kind == b"B":
            return fields[1] in self._drafts
        return sent.endswith(_COMMIT)


class CutAtCommit(Forwarder):
    """Passes bytes between a client and the server, until a COMMIT is to be cut.

    `url` is where the client connects to.
    """

    def __init__(self, postgres_url: str) -> None:
        super().__init__(postgres_url, lambda: _Cutting(self))
        self.url = self.way_to(postgres_url).render_as_string(hide_password=False)
        self._cuts = 0
        self._skipped = 0

    def cut_commit(self, number: int) -> None:
        """Cut one commit, after so many others."""
        self._cuts, self._skipped = 1, number

    def spare(self) -> int:
        """Cut nothing any more. Return 1 if the commit that was to be cut has been, else 0."""
        left, self._cuts = self._cuts, 0
        return 1 - left

    def cut_next_commit(self) -> None:
        self._cuts = 1

    def cut_every_commit(self) -> None:
        self._cuts = 1000

    def takes_this_one(self) -> bool:
        """Say whether the commit that has just been seen is to be cut."""
        if not self._cuts:
            return False
        if self._skipped:
            self._skipped -= 1
            return False
        self._cuts -= 1
        return True


class _Cutting:
    """Watches one connection for commits, and breaks it at the answer to one that is cut."""

    def __init__(self, cutter: CutAtCommit) -> None:
        self._cutter = cutter
        self._commits = Commits()
        self._is_cut = threading.Event()

    def sent(self, data: bytes) -> None:
        if self._commits.has(data) and self._cutter.takes_this_one():
            self._is_cut.set()

    def answered(self, data: bytes) -> bool:
        # The server has answered, so it has committed.
        return not self._is_cut.is_set()

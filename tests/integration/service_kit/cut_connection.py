"""A line to PostgreSQL that breaks after the server has committed and before it says so.

What commits is a COMMIT, or a statement that is a whole transaction.
"""

import contextlib
import socket
import threading
from typing import Self

from sqlalchemy import make_url

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


class CutAtCommit:
    """Passes bytes between a client and the server, until a COMMIT is to be cut.

    `url` is where the client connects to.
    """

    def __init__(self, postgres_url: str) -> None:
        server = make_url(postgres_url)
        self._server = (str(server.host), int(server.port or 5432))
        self._listener = socket.create_server(("127.0.0.1", 0))
        here = server.set(host="127.0.0.1", port=self._listener.getsockname()[1])
        self.url = here.render_as_string(hide_password=False)
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

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=[client], daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            is_cut = threading.Event()
            commits = Commits()
            back = threading.Thread(target=self._pass_back, args=[server, client, is_cut])
            back.start()
            with contextlib.suppress(OSError):
                while sent := client.recv(65536):
                    if commits.has(sent) and self._cuts:
                        if self._skipped:
                            self._skipped -= 1
                        else:
                            self._cuts -= 1
                            is_cut.set()
                    server.sendall(sent)
            server.shutdown(socket.SHUT_WR)
            back.join(10)

    def _pass_back(
        self, server: socket.socket, client: socket.socket, is_cut: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while answer := server.recv(65536):
                # The server has answered, so it has committed.
                if is_cut.is_set():
                    break
                client.sendall(answer)
            client.shutdown(socket.SHUT_RDWR)

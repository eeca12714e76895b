"""Stands between clients and PostgreSQL, and lets somebody see what passes."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Protocol, Self

from sqlalchemy import URL, make_url

_CHUNK_BYTES = 64 * 1024


class Watch(Protocol):
    """Sees what passes over one connection, before the other end has it."""

    def sent(self, data: bytes) -> None:
        """See what the client sends."""

    def answered(self, data: bytes) -> bool:
        """See what the server answers; say whether the client gets it. If not, the line breaks."""
        ...


class Forwarder:
    """Passes bytes between clients and a server; each connection has a watch of its own."""

    def __init__(self, server: str, watch: Callable[[], Watch]) -> None:
        url = make_url(server)
        self._server = (str(url.host), int(url.port or 5432))
        self._watch = watch
        self._listener = socket.create_server(("127.0.0.1", 0))

    def way_to(self, database: str) -> URL:
        """Return the way to a database of the server that leads through here."""
        return make_url(database).set(host="127.0.0.1", port=self._listener.getsockname()[1])

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
        watch = self._watch()
        with client, socket.create_connection(self._server) as server:
            back = threading.Thread(target=_pass_back, args=[server, client, watch], daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(_CHUNK_BYTES):
                    watch.sent(data)
                    server.sendall(data)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            back.join(10)


def _pass_back(server: socket.socket, client: socket.socket, watch: Watch) -> None:
    with contextlib.suppress(OSError):
        while data := server.recv(_CHUNK_BYTES):
            if not watch.answered(data):
                break
            client.sendall(data)
        client.shutdown(socket.SHUT_RDWR)

"""A connection whose reader can stop reading: what it does not take piles up at the sender's."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_CHUNK_BYTES: Final = 16 * 1024


class StalledLine:
    """Stands between one client and a server; what the server sends can be held back."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._flows = threading.Event()
        self._flows.set()
        self._sockets = [self._listener]
        threading.Thread(target=self._serve, daemon=True).start()

    def stall(self) -> None:
        """Let nothing of the server's through from now on."""
        self._flows.clear()

    def flow(self) -> None:
        """Let through what was held back, and everything that follows."""
        self._flows.set()

    def close(self) -> None:
        """Break the connection on both sides."""
        self._flows.set()
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _serve(self) -> None:
        always = threading.Event()
        always.set()
        with suppress(OSError):  # closed
            client, _ = self._listener.accept()
            server = socket.create_connection(self._target)
            # Little room on the way: what is not taken is soon felt.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK_BYTES)
            self._sockets += [client, server]
            threading.Thread(target=_pass_on, args=(client, server, always), daemon=True).start()
            _pass_on(server, client, self._flows)


@contextmanager
def stalled_line(target: str) -> Iterator[StalledLine]:
    """Open a line to a server for the block; it flows until it is told to stall."""
    line = StalledLine(target)
    try:
        yield line
    finally:
        line.close()


def _pass_on(source: socket.socket, sink: socket.socket, flows: threading.Event) -> None:
    with suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            flows.wait()
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)

"""Below gRPC: frames of HTTP/2 (RFC 9113) that no client would send, on connections of their own.

No answer is expected of them. Whoever sends them may be cut off; everybody else is served.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from tests.nasty_texts import TEXTS

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _END_HEADERS = 1, 4
_READ_SECONDS: Final = 0.2
_READ_BYTES: Final = 65_536

Headers = Sequence[tuple[bytes, bytes]]


def frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 0) -> bytes:
    """Write a frame."""
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes((kind, flags))
        + struct.pack(">I", stream)
        + payload
    )


def literal(value: bytes) -> bytes:
    """Write a text of HPACK (RFC 7541), without Huffman's code."""
    if len(value) < 0x7F:
        return bytes((len(value),)) + value
    rest, length = len(value) - 0x7F, bytearray(b"\x7f")
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes(length) + value


def header_block(headers: Headers) -> bytes:
    """Write headers, none of which is to be remembered."""
    return b"".join(b"\x00" + literal(name) + literal(value) for name, value in headers)


def call_headers(method: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of a call as it should be."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"x-actor-id", b"fuzz-0"),
        (b"x-actor-role", b"customer"),
    ]


def spoiled_headers(random: Random, method: str) -> bytes:
    """Make a call whose headers are not as they should be."""
    headers = call_headers(method)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(headers))
        name, _ = headers[at]
        nasty = random.choice((random.choice(TEXTS).encode(), random.randbytes(20)))
        match random.randrange(6):
            case 0:
                headers[at] = (name, nasty)
            case 1:
                del headers[at]
            case 2:
                headers.append((name, nasty))
            case 3:
                headers.append((b"grpc-timeout", random.choice(_TIMEOUTS)))
            case 4:
                headers.append((b"grpc-encoding", random.choice((b"gzip", b"deflate", nasty))))
            case _:
                headers.append((random.choice((nasty, b"x-bin", b"grpc-status", b":path")), nasty))
    return whole_call(headers)


def whole_call(headers: Headers) -> bytes:
    """Make a call of headers and an empty message."""
    message = b"\x00" + struct.pack(">I", 0)
    opened = frame(_HEADERS, header_block(headers), flags=_END_HEADERS, stream=1)
    return opened + frame(_DATA, message, flags=_END_STREAM, stream=1)


_TIMEOUTS: Final = (b"0n", b"-1S", b"99999999H", b"1", b"", b"xS", b"99999999999999999999S")


def spoiled_message(random: Random, method: str) -> bytes:
    """Make a call whose message lies about its length or its compression, or does not end."""
    body = random.randbytes(random.choice((0, 3, 200, 9_000)))
    length = random.choice((len(body), 0, 1, 2**32 - 1, len(body) + 5))
    message = bytes((random.choice((0, 1, 2, 255)),)) + struct.pack(">I", length) + body
    opened = frame(_HEADERS, header_block(call_headers(method)), flags=_END_HEADERS, stream=1)
    pieces = [message[i : i + 5_000] for i in range(0, len(message), 5_000)]
    return opened + b"".join(
        frame(_DATA, piece, flags=random.choice((0, _END_STREAM)), stream=1) for piece in pieces
    )


def strange_frames(random: Random, _method: str) -> bytes:
    """Send frames of any kind, on any stream, with anything in them."""
    return b"".join(
        frame(
            random.randrange(12),
            random.randbytes(random.choice((0, 4, 5, 8, 100))),
            flags=random.randrange(256),
            stream=random.choice((0, 1, 2, 3, 2**31 - 1)),
        )
        for _ in range(random.randint(1, 30))
    )


def endless_headers(random: Random, method: str) -> bytes:
    """Begin headers and never end them."""
    block = header_block(call_headers(method))
    more = header_block([(b"x-%d" % n, b"v" * 500) for n in range(20)])
    return frame(_HEADERS, block, stream=1) + b"".join(
        frame(_CONTINUATION, more, stream=1) for _ in range(random.randint(1, 40))
    )


def taken_back(random: Random, method: str) -> bytes:
    """Open many calls and take each back at once."""
    block = header_block(call_headers(method))
    return b"".join(
        frame(_HEADERS, block, flags=_END_HEADERS, stream=stream)
        + frame(_RST, struct.pack(">I", 8), stream=stream)
        for stream in range(1, 2 * random.randint(1, 150), 2)
    )


def busywork(random: Random, _method: str) -> bytes:
    """Ask for answers to nothing."""
    ping = frame(_PING, b"12345678")
    settings = frame(_SETTINGS, struct.pack(">HI", random.randrange(8), random.getrandbits(32)))
    window = frame(_WINDOW, struct.pack(">I", random.choice((0, 1, 2**31 - 1))))
    return random.choice((ping, settings, window, frame(_GOAWAY, b"\0" * 8))) * 100


KINDS: Final[Sequence[Callable[[Random, str], bytes]]] = (
    lambda random, _method: random.randbytes(random.randrange(2_000)),
    spoiled_headers,
    spoiled_headers,
    spoiled_message,
    spoiled_message,
    strange_frames,
    endless_headers,
    taken_back,
    busywork,
)


def run(address: str, method: str, *, seed: int, number: int) -> None:
    """Send what this number stands for on a connection of its own."""
    random = Random(f"http2/{seed}/{number}")  # noqa: S311 - it must be repeatable
    exchange(address, random.choice(KINDS)(random, method), politely=random.random() < 0.95)


def exchange(address: str, frames: bytes, *, politely: bool = True) -> bytes:
    """Connect, send, and return what comes back; `politely`, with what HTTP/2 begins with."""
    host, _, port = address.rpartition(":")
    opening = _PREFACE + frame(_SETTINGS, b"") if politely else b""
    received = bytearray()
    with socket.create_connection((host, int(port)), timeout=5) as line, _cut_off():
        line.sendall(opening + frames)
        line.settimeout(_READ_SECONDS)
        while len(received) < _READ_BYTES and (piece := line.recv(_READ_BYTES)):
            received += piece
    return bytes(received)


def _cut_off() -> contextlib.AbstractContextManager[object]:
    # The server may hang up before it has been told everything, or keep silent for longer.
    return contextlib.suppress(ConnectionError, TimeoutError)

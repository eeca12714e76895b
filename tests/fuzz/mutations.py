"""Ways to spoil a request: as bytes, as Protobuf's wire format, as a message, as metadata."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from service_kit.interceptors.requests import REQUEST_BYTES_MAX
from tests.client import Metadata
from tests.nasty_texts import TEXTS

INT32: Final = (0, 1, -1, 99, 100, 101, 10_000, 10_001, 2**31 - 1, -(2**31))
INT64: Final = (*INT32, 10**10, 10**10 + 1, 10**12, 10**12 + 1, 2**53 + 1, 2**63 - 1, -(2**63))
LENGTHS: Final = (0, 1, 2, 99, 100, 101)

# What a service has said, by the name of the field that takes it.
Known = Mapping[str, Sequence[str]]


def random_bytes(random: Random) -> bytes:
    """Make bytes of nothing, mostly few."""
    longest = random.choice((1, 16, 256, 4096, REQUEST_BYTES_MAX + 2))
    return random.randbytes(random.randrange(longest))


def spoiled(random: Random, body: bytes) -> bytes:
    """Change bytes here and there, cut pieces out, or put pieces in."""
    spoiled = bytearray(body)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(spoiled))
        match random.randrange(5):
            case 0 if at < len(spoiled):
                spoiled[at] ^= 1 << random.randrange(8)
            case 1:
                del spoiled[at : at + random.randint(1, 8)]
            case 2:
                spoiled[at:at] = random.randbytes(random.randint(1, 8))
            case 3:
                spoiled[at:at] = spoiled[: random.randint(0, len(spoiled))]
            case _:
                del spoiled[at:]
    return bytes(spoiled)


def strange_wire(random: Random, body: bytes) -> bytes:
    """Say what a parser may stumble over: lies about lengths, foreign types, deep nesting."""
    number = random.choice((1, 2, 3, 4, 15, 16, 999, 2**29 - 1, 0))
    wire_type = random.randrange(8)
    tag = varint(number << 3 | wire_type)
    match random.randrange(7):
        case 0:
            return body + tag + varint(random.choice((0, 1, 2**31, 2**64 - 1)))
        case 1:
            return body + varint(number << 3 | 2) + varint(random.choice((2**31 - 1, 2**63, 500)))
        case 2:
            return body + b"\xff" * random.randint(1, 20)
        case 3:
            # Groups, each within the one before.
            depth = random.choice((10, 99, 101, 5_000))
            return body + varint(number << 3 | 3) * depth + varint(number << 3 | 4) * depth
        case 4:
            return nested(random.choice((3, 99, 101, 2_000)), number) + body
        case 5:
            return body * random.randint(2, 20)
        case _:
            return body + tag + random.randbytes(random.randint(0, 32))


def nested(depth: int, number: int) -> bytes:
    """Make a message of a message of a message."""
    body = b""
    for _ in range(depth):
        if len(body) > REQUEST_BYTES_MAX:
            break
        body = varint(number << 3 | 2) + varint(len(body)) + body
    return body


def varint(value: int) -> bytes:
    """Write a number as Protobuf does."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def text(random: Random, name: str, known: Known) -> str:
    """Choose a text that a field should not have, or not now."""
    told = known.get(name) or ("x",)
    match random.randrange(4):
        case 0:
            return misspelt(random, random.choice(told))
        case 1:
            return random.choice(random.choice(tuple(known.values())) or ("x",))
        case 2:
            return "".join(map(_character, [random] * random.randrange(80)))
        case _:
            return random.choice(TEXTS)


def _character(random: Random) -> str:
    # No half of a pair: Protobuf has no text with one.
    return chr(random.choice((random.randrange(128), random.randrange(0xD800))))


def misspelt(random: Random, right: str) -> str:
    """Change a text a little."""
    if not right:
        return "x"
    at = random.randrange(len(right))
    match random.randrange(4):
        case 0:
            return right[:at]
        case 1:
            return right[:at] + random.choice("abcXYZ019._-=+/ é") + right[at + 1 :]
        case 2:
            return right + right[at:]
        case _:
            return right[:at] + random.choice(TEXTS) + right[at:]


def message(random: Random, kind: type[Message], known: Known) -> Message:
    """Make a message of the type: as it should be, or wrong in few of its fields, or in many."""
    made = kind()
    _fill(random, made, known, wild=random.choice((0.0, 0.0, 0.0, 0.1, 0.1, 0.5)))
    return made


def _fill(random: Random, made: Any, known: Known, *, wild: float) -> None:
    for field in made.DESCRIPTOR.fields:
        is_wrong = random.random() < wild
        oneof = field.containing_oneof
        if oneof is not None and made.WhichOneof(oneof.name):
            # Set twice, the last counts; more often than not it is the first here.
            continue
        if field.is_repeated:
            for _ in range(random.choice(LENGTHS) if is_wrong else random.randint(1, 3)):
                _fill(random, getattr(made, field.name).add(), known, wild=wild)
        elif field.message_type is not None:
            if not is_wrong:
                inner = getattr(made, field.name)
                inner.SetInParent()
                _fill(random, inner, known, wild=wild)
        elif is_wrong:
            setattr(made, field.name, _wrong(random, field, known))
        else:
            setattr(made, field.name, _right(random, field, known))


def _right(random: Random, field: FieldDescriptor, known: Known) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return random.choice(known.get(field.name) or ("x",))
        case FieldDescriptor.TYPE_BYTES:
            return b""
        case FieldDescriptor.TYPE_ENUM:
            return random.randrange(3)
        case _:
            return random.randint(1, 20)


def _wrong(random: Random, field: FieldDescriptor, known: Known) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return text(random, field.name, known)
        case FieldDescriptor.TYPE_BYTES:
            return random_bytes(random)[:500]
        case FieldDescriptor.TYPE_INT64:
            return random.choice(INT64)
        case _:
            return random.choice(INT32)


def metadata(random: Random, told: Metadata) -> Metadata:
    """Spoil the metadata of a call. What grpc itself would not send is left out."""
    spoiled: list[tuple[str, str | bytes]] = list(told)
    for _ in range(random.randint(1, 3)):
        value = visible(random, random.choice(TEXTS))
        match random.randrange(6):
            case 0:
                spoiled.append((random.choice(_OURS), value))
            case 1 if spoiled:
                key, _ = random.choice(spoiled)
                spoiled.append((key, value.encode() if key.endswith("-bin") else value))
            case 2 if spoiled:
                del spoiled[random.randrange(len(spoiled))]
            case 3:
                spoiled.append(("x-any-bin", random.randbytes(random.randrange(200))))
            case 4:
                spoiled.append(("x-filler", "f" * random.choice((1, 4_000, 8_200, 16_000))))
            case _:
                spoiled.append(("traceparent", _traceparent(random)))
    return spoiled


_OURS: Final = ("x-actor-id", "x-actor-role", "x-on-behalf-of", "x-trace-id", "traceparent")


def visible(random: Random, value: str) -> str:
    """Keep what may stand in a header."""
    kept = "".join(c for c in value if " " <= c <= "~").strip()
    return kept[: random.choice((10, 300, 300))]


def _traceparent(random: Random) -> str:
    parts = (
        random.choice(("00", "ff", "01", "0", "zz")),
        f"{random.choice((0, 1, random.getrandbits(128))):032x}",
        f"{random.choice((0, 1, random.getrandbits(64))):016x}",
        random.choice(("00", "01", "ff", "zz", "01-more")),
    )
    return random.choice(("-", "-", "--", "")).join(parts)


BODIES: Final[Sequence[Callable[[Random, bytes], bytes]]] = (
    lambda random, _body: random_bytes(random),
    spoiled,
    strange_wire,
)

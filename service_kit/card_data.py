"""Card numbers in text, so that they can be refused before they are stored or logged.

A card number here is 13 to 19 digits that begin with 3 to 6 or 22 to 27 (the ranges that card
networks use), pass the Luhn check, may be grouped by single spaces or dashes, and touch no
letter or other digit. Not taken for one: a UUID, a number that begins with a year such as
20261122, and a 13-digit article number (GTIN-13) with its own check digit right. They are
common in the fields of an order, and one in ten of them passes the Luhn check.
"""

import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_SHORTEST: Final = 13
_LONGEST: Final = 19
_GTIN_DIGITS: Final = 13
_PREFIX: Final = re.compile("[3-6]|2[2-7]")

# Groups of digits, long enough together. Nearly every text ends here.
_RUN: Final = re.compile(rf"[0-9](?:[ -]?[0-9]){{{_SHORTEST - 1},}}")
_RUN_OF_BYTES: Final = re.compile(_RUN.pattern.encode())
_UUID: Final = re.compile(
    r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
)
_GROUPS: Final = re.compile(r"[ -]")
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def may_be_in(serialized: bytes) -> bool:
    """Say whether a message of these bytes may hold a card number: if not, `find` finds none."""
    return _RUN_OF_BYTES.search(serialized) is not None


def find(message: Message) -> list[str]:
    """List the paths of the string fields that hold a card number, like `items[1].sku`."""
    return [path for path, text in _texts(message, "") if find_in_text(text)]


def find_in_text(text: str) -> bool:
    """Say whether the text holds a card number."""
    if _RUN.search(text) is None:
        return False
    text = _UUID.sub(";", text)
    return any(
        _is_card_number(digits) for run in _RUN.finditer(text) for digits in _candidates(text, run)
    )


def _candidates(text: str, run: re.Match[str]) -> Iterator[str]:
    """Take every sequence of whole groups that is as long as a card number.

    A number may stand among other groups, such as a quantity before and an expiry date after.
    """
    groups = _GROUPS.split(run[0])
    # A group that touches a letter is part of a word.
    if _touches(text, run.start() - 1):
        groups = groups[1:]
    if _touches(text, run.end()):
        groups = groups[:-1]
    for first in range(len(groups)):
        for digits in accumulate(groups[first:]):
            if len(digits) > _LONGEST:
                break
            if len(digits) >= _SHORTEST:
                yield digits


def _touches(text: str, index: int) -> bool:
    # Only Latin letters make words with digits: Chinese, say, is written without spaces.
    return 0 <= index < len(text) and text[index].isascii() and text[index].isalnum()


def _is_card_number(digits: str) -> bool:
    if not _PREFIX.match(digits) or not _passes_luhn(digits):
        return False
    return not (len(digits) == _GTIN_DIGITS and _is_gtin13(digits))


def _passes_luhn(digits: str) -> bool:
    backwards = [int(digit) for digit in reversed(digits)]
    doubled = sum(_DOUBLED[digit] for digit in backwards[1::2])
    return (sum(backwards[::2]) + doubled) % 10 == 0


def _is_gtin13(digits: str) -> bool:
    numbers = [int(digit) for digit in digits]
    return (sum(numbers[::2]) + 3 * sum(numbers[1::2])) % 10 == 0


# --- The way through a message, worked out once per message type. ---

_Step = Callable[[Message, str], Iterator[tuple[str, str]]]
_steps: Final[dict[Any, tuple[_Step, ...]]] = {}


def _texts(message: Message, prefix: str) -> Iterator[tuple[str, str]]:
    descriptor = message.DESCRIPTOR
    steps = _steps.get(descriptor)
    if steps is None:
        steps = _steps[descriptor] = tuple(_plan(descriptor))
    for step in steps:
        yield from step(message, prefix)


def _plan(descriptor: Any) -> Iterator[_Step]:
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield _entries(field.name)
        elif field.message_type is not None:
            yield _messages(field.name) if field.is_repeated else _message(field.name)
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield _strings(field.name) if field.is_repeated else _string(field.name)


def _string(name: str) -> _Step:
    def step(message: Message, prefix: str) -> Iterator[tuple[str, str]]:
        if text := getattr(message, name):
            yield prefix + name, text

    return step


def _strings(name: str) -> _Step:
    def step(message: Message, prefix: str) -> Iterator[tuple[str, str]]:
        for index, text in enumerate(getattr(message, name)):
            yield f"{prefix}{name}[{index}]", text

    return step


def _message(name: str) -> _Step:
    def step(message: Message, prefix: str) -> Iterator[tuple[str, str]]:
        if message.HasField(name):
            yield from _texts(getattr(message, name), f"{prefix}{name}.")

    return step


def _messages(name: str) -> _Step:
    def step(message: Message, prefix: str) -> Iterator[tuple[str, str]]:
        for index, element in enumerate(getattr(message, name)):
            yield from _texts(element, f"{prefix}{name}[{index}].")

    return step


def _entries(name: str) -> _Step:
    """Look into both sides of a map. A key that is a card number must not be in the path."""

    def step(message: Message, prefix: str) -> Iterator[tuple[str, str]]:
        for key, value in getattr(message, name).items():
            if isinstance(key, str):
                yield prefix + name, key
            if isinstance(value, str):
                yield prefix + name, value
            elif isinstance(value, Message):
                yield from _texts(value, f"{prefix}{name}[].")

    return step

"""Every text that a request of either service can carry, and how to put one there."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from tests.builders import request_type
from tests.system.every_rpc import CONTRACTS, rpc_of


def string_fields(descriptor: Any) -> Iterator[tuple[str, ...]]:
    """Walk to every string field of a message: the names on the way."""
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (field.name,)
        elif field.message_type is not None:
            for path in string_fields(field.message_type):
                yield (field.name, *path)


STRING_FIELDS = [
    (contract, path)
    for contract in CONTRACTS
    for path in string_fields(request_type(rpc_of(contract)).DESCRIPTOR)
]


def with_text_at(message: Any, path: tuple[str, ...], text: str) -> str:
    """Put a text into a field of a message, and return the field's path as services name it."""
    name, *rest = path
    if not rest:
        setattr(message, name, text)
        return name
    field = getattr(message, name)
    if message.DESCRIPTOR.fields_by_name[name].is_repeated:
        return f"{name}[0].{with_text_at(field.add(), tuple(rest), text)}"
    return f"{name}.{with_text_at(field, tuple(rest), text)}"

"""The limits of the fields, as their comments state them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service_kit.contract.descriptors import ContractImage

# "Limit: 1 to 10,000." or, where the limit is another field's, "`units` from 1 to 10,000." and
# "The total must be from 1 to 10,000."; a full stop inside a sentence has no space behind it.
_STATED: Final = re.compile(
    r"Limit: (.+?)\.(?:\s|$)|((?:`\w+`|[A-Z][a-z ]*must be) from \d.*?)\.(?:\s|$)"
)
_REQUIRED: Final = re.compile(r"\bRequired[.;]")


@dataclass(frozen=True)
class Limit:
    """What the comment of a field demands; `sentences` may be empty for one only required."""

    required: bool
    sentences: tuple[str, ...]


def limits(image: ContractImage) -> Mapping[str, Limit]:
    """Return the limit of every field that has one, by full name (`package.Message.field`)."""
    fields = (
        f"{message}.{field.name}"
        for message, descriptor in image.messages.items()
        for field in descriptor.field
    )
    stated = {name: _stated(image.comments[name]) for name in fields}
    return {name: limit for name, limit in stated.items() if limit.required or limit.sentences}


def _stated(comment: str) -> Limit:
    text = " ".join(comment.split())
    return Limit(
        required=_REQUIRED.search(text) is not None,
        sentences=tuple(plain or other for plain, other in _STATED.findall(text)),
    )

"""The error reasons, as their comments in the contract describe them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service_kit.contract.descriptors import ContractImage
from service_kit.contract.markdown import is_code, paragraphs
from service_kit.contract.method_contracts import short_name

_CODE: Final = re.compile(r"([A-Z][A-Z_]+)(?:\. |(?=, ))")


@dataclass(frozen=True)
class ErrorEntry:
    """One reason: its gRPC code, what it means, and a worked ErrorInfo in JSON.

    What the comment does not say is empty.
    """

    reason: str
    code: str
    text: tuple[str, ...]
    example: str


def error_catalogue(image: ContractImage) -> Mapping[str, ErrorEntry]:
    """Return every error reason by name, in the order of the enum."""
    name, enum = image.option_enum("error_reasons")
    entries = {}
    for value in enum.value:
        reason = short_name(value.name, enum.name)
        if reason:
            entries[reason] = _entry(reason, image.comments[f"{name}.{value.name}"])
    return entries


def _entry(reason: str, comment: str) -> ErrorEntry:
    # "NOT_FOUND. There is …" begins with its code; "ABORTED, without …" needs it to be a sentence.
    code = _CODE.match(comment)
    blocks = paragraphs(comment[code.end() :] if code and comment[code.end(1)] == "." else comment)
    examples = [block for block in blocks if is_code(block)]
    return ErrorEntry(
        reason=reason,
        code=code.group(1) if code else "",
        text=tuple(block for block in blocks if not is_code(block)),
        example="\n".join(line[4:] for line in examples[0].split("\n")) if examples else "",
    )

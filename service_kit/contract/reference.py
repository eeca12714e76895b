"""The chapters about each RPC, message and enum."""

from typing import Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, MethodDescriptorProto

from service_kit.contract.markdown import anchor, paragraphs, table
from service_kit.contract.method_contracts import MethodContract
from service_kit.contract.outline import ENUMS, MESSAGES, REPEATING, Outline, short

_TYPE_NAMES: Final = {
    number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()
}


def service_chapter(page: Outline, service: str) -> list[str]:
    """Describe a service and each of its RPCs."""
    lines = [f"## {short(service)}", "", f"`{service}`", "", *prose(page, service, short(service))]
    for rpc in page.image.services[service].method:
        lines += _rpc(page, f"/{service}/{rpc.name}", rpc)
    return lines


def messages_chapter(page: Outline) -> list[str]:
    """Describe the messages that several RPCs carry."""
    lines = [f"## {MESSAGES}", "", "What requests and replies are made of.", ""]
    for name in page.messages:
        lines += [f"### {short(name)}", "", f"`{name}`", "", *prose(page, name, short(name))]
        lines += _fields(page, name, short(name))
    return lines


def enums_chapter(page: Outline) -> list[str]:
    """Describe the enums that are neither statuses nor the option's."""
    lines = [f"## {ENUMS}", ""]
    for name in page.enums:
        lines += [f"### {short(name)}", "", f"`{name}`", "", *prose(page, name, short(name))]
        rows = (
            [f"`{value.name}`", str(value.number), cell(page, f"{name}.{value.name}", short(name))]
            for value in page.image.enums[name].value
        )
        lines += table(["Value", "Number", "Meaning"], rows)
    return lines


def prose(page: Outline, name: str, here: str) -> list[str]:
    """Return the paragraphs of an element's comment, linked, each followed by a blank line."""
    blocks = paragraphs(page.image.comments[name])
    return [line for block in blocks for line in (page.links.prose(block, here=here), "")]


def cell(page: Outline, name: str, here: str) -> str:
    """Return an element's comment as the content of a table cell."""
    return "<br>".join(line for line in prose(page, name, here) if line)


def arrows(contract: MethodContract) -> str:
    """Return the transitions of an RPC as the content of a table cell."""
    drawn = (
        f"`{before}` → `{after}`" if before else f"→ `{after}`"
        for before, after in contract.transitions
    )
    return "<br>".join(drawn)


def reasons_by_code(page: Outline, reasons: frozenset[str]) -> list[str]:
    """Lay out a table of reasons, those of one gRPC code in one row."""
    by_code: dict[str, list[str]] = {}
    for entry in page.errors.values():
        if entry.reason in reasons:
            by_code.setdefault(entry.code, []).append(page.links.to(entry.reason))
    rows = ([f"`{code}`", ", ".join(links)] for code, links in by_code.items())
    return table(["Code", "Reasons"], rows)


def _rpc(page: Outline, method: str, rpc: MethodDescriptorProto) -> list[str]:
    contract = page.image.contracts[method]
    request, reply = rpc.input_type.removeprefix("."), rpc.output_type.removeprefix(".")
    stream = "stream " if rpc.server_streaming else ""
    facts = [
        arrows(contract) or "none",
        _repeat(contract),
        ", ".join(page.in_order(contract.roles)),
    ]
    return [
        f"### {rpc.name}",
        "",
        "```protobuf",
        f"rpc {rpc.name}({short(request)}) returns ({stream}{short(reply)})",
        "```",
        "",
        *prose(page, method, rpc.name),
        *table(["Changes of status", "Repeat", "Callers"], [facts]),
        *reasons_by_code(page, contract.error_reasons),
        *_carried(page, request, rpc.name),
        *_carried(page, reply, rpc.name),
    ]


def _repeat(contract: MethodContract) -> str:
    return f"[`{contract.idempotency}`](#{anchor(REPEATING)})"


def _carried(page: Outline, message: str, here: str) -> list[str]:
    comment = cell(page, message, here)
    return [f"**`{short(message)}`**: {comment}", "", *_fields(page, message, here)]


def _fields(page: Outline, message: str, here: str) -> list[str]:
    fields = page.image.messages[message].field
    rows = (
        [f"`{field.name}`", _type(page, field), cell(page, f"{message}.{field.name}", here)]
        for field in fields
    )
    return table(["Field", "Type", "Meaning"], rows)


def _type(page: Outline, field: FieldDescriptorProto) -> str:
    named = field.type_name.removeprefix(".")
    name = page.links.to(named) if named else f"`{_TYPE_NAMES[field.type]}`"
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return f"repeated {name}" if repeated else name

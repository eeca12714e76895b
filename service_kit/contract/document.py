"""The contract as one page of Markdown, for those who write clients."""

from typing import Final

from service_kit.contract.descriptors import ROOT_PACKAGE, ContractImage
from service_kit.contract.limits import limits
from service_kit.contract.markdown import anchor, paragraphs, table
from service_kit.contract.method_contracts import short_name
from service_kit.contract.outline import (
    AT_A_GLANCE,
    ENUMS,
    ERRORS,
    LIFE_CYCLES,
    LIMITS,
    MESSAGES,
    REPEATING,
    WHO_MAY_CALL,
    Outline,
    cycle_heading,
    outline,
    short,
)
from service_kit.contract.reference import (
    arrows,
    cell,
    enums_chapter,
    messages_chapter,
    prose,
    reasons_by_code,
    service_chapter,
)

_PROMISE: Final = (
    "Everything that a client may rely on: what each RPC does, which changes of status it can "
    "make, every reason with which it can refuse, what a repeat gets, and who may call it. "
    "Each version is compared with the one released before it; a promise that breaks is reported "
    "with the RPC's name."
)


def render(image: ContractImage) -> str:
    """Write the page. Needs an image with comments."""
    page = outline(image)
    chapters = [_opening(page), _at_a_glance(page), _life_cycles(page)]
    chapters += [service_chapter(page, service) for service in image.services]
    chapters += [_errors(page), _limits(page), messages_chapter(page), enums_chapter(page)]
    return "\n".join(line for chapter in chapters for line in chapter).rstrip() + "\n"


def _opening(page: Outline) -> list[str]:
    services = [short(service) for service in page.image.services]
    headings = [AT_A_GLANCE, LIFE_CYCLES, *services, ERRORS, LIMITS, MESSAGES, ENUMS]
    return [
        f"# The {ROOT_PACKAGE} contract",
        "",
        "<!-- Written by `python -m service_kit.contract document`. Edit the protos instead. -->",
        "",
        _PROMISE,
        "",
        " · ".join(f"[{heading}](#{anchor(heading)})" for heading in headings),
        "",
    ]


def _at_a_glance(page: Outline) -> list[str]:
    lines = [f"## {AT_A_GLANCE}", ""]
    for service, descriptor in page.image.services.items():
        methods = {rpc.name: f"/{service}/{rpc.name}" for rpc in descriptor.method}
        contracts = {name: page.image.contracts[method] for name, method in methods.items()}
        roles = page.in_order(frozenset().union(*(c.roles for c in contracts.values())))
        rows = (
            [
                f"[{name}](#{anchor(name)})",
                _first_sentence(page.image.comments[methods[name]]),
                arrows(contract),
                f"`{contract.idempotency}`",
                *("✓" if role in contract.roles else "" for role in roles),
            ]
            for name, contract in contracts.items()
        )
        head = [f"[{short(service)}](#{anchor(short(service))})", "", "Changes", "Repeat", *roles]
        lines += table(head, rows)
    lines += _option_values(page, "idempotency", REPEATING)
    lines += _option_values(page, "roles", WHO_MAY_CALL)
    return lines


def _option_values(page: Outline, field: str, heading: str) -> list[str]:
    name, enum = page.image.option_enum(field)
    rows = [
        [f"`{label}`", cell(page, f"{name}.{value.name}", heading)]
        for value in enum.value
        if (label := short_name(value.name, enum.name).lower())
    ]
    return [f"### {heading}", "", *prose(page, name, heading), *table(["", "Meaning"], rows)]


def _life_cycles(page: Outline) -> list[str]:
    lines = [
        f"## {LIFE_CYCLES}",
        "",
        "Every arrow is a transition that some RPC declares, and names the RPCs that can make it.",
        "",
    ]
    for cycle in page.cycles.values():
        heading = cycle_heading(cycle)
        rows = (
            [
                f"`{value}`",
                cell(page, f"{cycle.enum}.{value}", heading),
                ", ".join(f"`{following}`" for following in cycle.following(status)),
            ]
            for value, status in cycle.statuses.items()
            if status
        )
        lines += [f"### {heading}", "", *prose(page, cycle.enum, heading), *cycle.diagram(), ""]
        lines += table([f"`{cycle.enum}`", "Meaning", "Next"], rows)
    return lines


def _errors(page: Outline) -> list[str]:
    name, _ = page.image.option_enum("error_reasons")
    lines = [f"## {ERRORS}", "", f"`{name}`", "", *prose(page, name, ERRORS)]
    lines += reasons_by_code(page, frozenset(page.errors))
    for entry in page.errors.values():
        lines += [f"### {entry.reason}", "", f"**{entry.code}**", ""]
        for text in entry.text:
            lines += [page.links.prose(text, here=entry.reason), ""]
        lines += [
            "```json",
            *entry.example.split("\n"),
            "```",
            "",
            _raised_by(page, entry.reason),
            "",
        ]
    return lines


def _raised_by(page: Outline, reason: str) -> str:
    contracts = page.image.contracts
    methods = [method for method in contracts if reason in contracts[method].error_reasons]
    if len(methods) == len(contracts):
        return "From every RPC."
    names = (method.rpartition("/")[2] for method in methods)
    return f"From {', '.join(page.links.to(name, text=name) for name in names)}."


def _limits(page: Outline) -> list[str]:
    rows = (
        [
            page.links.to(name.rpartition(".")[0]) + f" `{short(name)}`",
            "yes" if limit.required else "",
            "<br>".join(limit.sentences),
        ]
        for name, limit in limits(page.image).items()
    )
    return [
        f"## {LIMITS}",
        "",
        f"What is outside is refused with {page.links.to('VALIDATION_FAILED')}",
        "",
        *table(["Field", "Required", "Limit"], rows),
    ]


def _first_sentence(comment: str) -> str:
    return paragraphs(comment)[0].partition(". ")[0].rstrip(".") + "."

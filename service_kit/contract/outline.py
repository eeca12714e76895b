"""What the contract's page documents, and under which heading."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from checkout.contract.v1 import options_pb2
from service_kit.contract.descriptors import ContractImage
from service_kit.contract.error_catalogue import ErrorEntry, error_catalogue
from service_kit.contract.life_cycles import LifeCycle, life_cycles
from service_kit.contract.markdown import Links
from service_kit.contract.method_contracts import short_name

AT_A_GLANCE: Final = "At a glance"
WHO_MAY_CALL: Final = "Who may call"
REPEATING: Final = "Repeating a call"
LIFE_CYCLES: Final = "Life cycles"
ERRORS: Final = "Errors"
LIMITS: Final = "Limits"
MESSAGES: Final = "Messages"
ENUMS: Final = "Enums"

_OPTION_ENUMS: Final = {"roles": WHO_MAY_CALL, "idempotency": REPEATING, "error_reasons": ERRORS}


@dataclass(frozen=True)
class Outline:
    """An image and what was found in it.

    `messages` and `enums` are the full names of those with a heading of their own: requests and
    replies stand with their RPC, statuses with their life cycle, the option's with the rules.
    """

    image: ContractImage
    cycles: Mapping[str, LifeCycle]
    errors: Mapping[str, ErrorEntry]
    messages: Sequence[str]
    enums: Sequence[str]
    links: Links

    @cached_property
    def roles(self) -> Sequence[str]:
        """Return the roles, in the order of their enum."""
        _, enum = self.image.option_enum("roles")
        names = (short_name(value.name, enum.name).lower() for value in enum.value)
        return [name for name in names if name]

    def in_order(self, roles: frozenset[str]) -> list[str]:
        """Return some of the roles in the order of their enum."""
        return [role for role in self.roles if role in roles]


def outline(image: ContractImage) -> Outline:
    """Find everything that is to be documented and the heading of every name."""
    cycles, errors = life_cycles(image), error_catalogue(image)
    carried = {t for rpc in image.rpcs.values() for t in (rpc.input_type, rpc.output_type)}
    of_option = f"{options_pb2.DESCRIPTOR.package}."
    messages = [m for m in image.messages if f".{m}" not in carried and not m.startswith(of_option)]
    elsewhere = {image.option_enum(field)[0] for field in _OPTION_ENUMS}
    elsewhere |= {cycle.enum for cycle in cycles.values()}
    enums = [enum for enum in image.enums if enum not in elsewhere]
    targets = {
        **dict(_rpcs(image)),
        **dict(_with_short_names({name: short(name) for name in (*messages, *enums)})),
        **dict(_with_short_names({cycle.enum: cycle_heading(cycle) for cycle in cycles.values()})),
        **dict(_with_short_names({image.option_enum(f)[0]: h for f, h in _OPTION_ENUMS.items()})),
        **{reason: reason for reason in errors},
    }
    return Outline(image, cycles, errors, messages, enums, Links(targets))


def short(full_name: str) -> str:
    """Return the last part of a name."""
    return full_name.rpartition(".")[2]


def cycle_heading(cycle: LifeCycle) -> str:
    """Return the heading of a life cycle."""
    return f"{short(cycle.resource)} life cycle"


def _rpcs(image: ContractImage) -> Iterator[tuple[str, str]]:
    yield from _with_short_names({service: short(service) for service in image.services})
    for method, rpc in image.rpcs.items():
        service, _, name = method.removeprefix("/").partition("/")
        yield from ((name, name), (f"{short(service)}.{name}", name))
        for message in (rpc.input_type, rpc.output_type):
            yield from _with_short_names({message.removeprefix("."): name})


def _with_short_names(headings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for full_name, heading in headings.items():
        yield full_name, heading
        yield short(full_name), heading

"""The life cycles that the transitions of all RPCs add up to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.descriptor_pb2 import DescriptorProto, MethodDescriptorProto

from service_kit.contract.descriptors import ContractImage
from service_kit.contract.method_contracts import ContractIncomplete, short_name


@dataclass(frozen=True)
class LifeCycle:
    """The statuses of a resource and the RPCs that change them.

    `resource` and `enum` are full names, `statuses` short names in lower case by value name,
    and `arrows` the names of the RPCs by (from, to).
    """

    resource: str
    enum: str
    statuses: Mapping[str, str]
    arrows: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def following(self, status: str) -> list[str]:
        """List the statuses that can come next."""
        return [after for before, after in self.arrows if before == status]

    def diagram(self) -> list[str]:
        """Draw the life cycle as a Mermaid state diagram."""
        arrows = [
            f"    {before or '[*]'} --> {after}: {', '.join(rpcs)}"
            for (before, after), rpcs in self.arrows.items()
        ]
        ends = [
            f"    {status} --> [*]"
            for status in self.statuses.values()
            if status and not self.following(status)
        ]
        return ["```mermaid", "stateDiagram-v2", "    direction LR", *arrows, *ends, "```"]


def life_cycles(image: ContractImage) -> dict[str, LifeCycle]:
    """Return the life cycle of every resource that some RPC changes, by the resource's full name.

    An RPC changes the first thing in its reply that has a field `status`. Raises
    ContractIncomplete for one that declares transitions and replies with no such thing.
    """
    found: dict[str, LifeCycle] = {}
    for method, contract in image.contracts.items():
        if not contract.transitions:
            continue
        resource = _resource(image, image.rpcs[method])
        if resource is None:
            raise ContractIncomplete(method=method, missing="resource with a status in its reply")
        cycle = found.setdefault(resource, _without_arrows(image, resource))
        for arrow in contract.transitions:
            cycle.arrows.setdefault(arrow, []).append(method.rpartition("/")[2])
    return found


def _resource(image: ContractImage, rpc: MethodDescriptorProto) -> str | None:
    reply = image.messages[rpc.output_type.removeprefix(".")]
    names = (replied.type_name.removeprefix(".") for replied in reply.field)
    return next((name for name in names if _status_enum(image.messages.get(name))), None)


def _status_enum(message: DescriptorProto | None) -> str:
    fields = message.field if message else []
    return next((f.type_name.removeprefix(".") for f in fields if f.name == "status"), "")


def _without_arrows(image: ContractImage, resource: str) -> LifeCycle:
    name = _status_enum(image.messages[resource])
    enum = image.enums[name]
    statuses = {value.name: short_name(value.name, enum.name).lower() for value in enum.value}
    return LifeCycle(resource, name, statuses)

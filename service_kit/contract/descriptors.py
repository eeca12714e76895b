"""A contract as a set of file descriptors: the installed one, or an image in a file."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final, Self

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from google.protobuf.message import DecodeError

from checkout.contract.v1 import options_pb2
from service_kit.contract.method_contracts import (
    MethodContract,
    ValueNames,
    read_option,
    short_name,
)

ROOT_PACKAGE: Final = options_pb2.DESCRIPTOR.package.partition(".")[0]
_INSTALLED_IMAGE: Final = "contract.binpb"

# Field numbers in descriptor.proto: a comment is found by the path of numbers to its element.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_MESSAGE_FIELDS, _ENUM_VALUES, _SERVICE_METHODS = 2, 2, 2

Place = tuple[int, ...]
_Parent = DescriptorProto | EnumDescriptorProto | ServiceDescriptorProto


class ImageUnreadable(Exception):
    """A file is not an image of this contract."""


class ContractImage:
    """The descriptors of one version of the contract.

    `files` are the contract's own, without what they import from elsewhere. Messages, enums and
    services are keyed by full name, in the order of their declaration.
    """

    def __init__(self, descriptors: FileDescriptorSet) -> None:
        self.files = tuple(
            file for file in descriptors.file if file.package.partition(".")[0] == ROOT_PACKAGE
        )

    @classmethod
    def installed(cls) -> Self:
        """Read the descriptors that were generated with the installed code, comments included."""
        return cls.load(resources.files(ROOT_PACKAGE) / _INSTALLED_IMAGE)

    @classmethod
    def load(cls, path: Traversable) -> Self:
        """Read an image that `buf build` or `protoc --descriptor_set_out` wrote.

        Raises ImageUnreadable when the file cannot be read or is something else.
        """
        try:
            image = cls(FileDescriptorSet.FromString(path.read_bytes()))
        except OSError as error:
            raise ImageUnreadable(f"cannot read {path}: {error.strerror}") from None
        except DecodeError:
            raise ImageUnreadable(f"{path} is not a set of Protobuf descriptors") from None
        if not image.services:
            raise ImageUnreadable(f"{path} has no service of the package {ROOT_PACKAGE}")
        return image

    @cached_property
    def messages(self) -> Mapping[str, DescriptorProto]:
        """Return every message by full name."""
        return {f"{file.package}.{m.name}": m for file in self.files for m in file.message_type}

    @cached_property
    def enums(self) -> Mapping[str, EnumDescriptorProto]:
        """Return every enum by full name."""
        return {f"{file.package}.{e.name}": e for file in self.files for e in file.enum_type}

    @cached_property
    def services(self) -> Mapping[str, ServiceDescriptorProto]:
        """Return every service by full name."""
        return {f"{file.package}.{s.name}": s for file in self.files for s in file.service}

    @cached_property
    def rpcs(self) -> Mapping[str, MethodDescriptorProto]:
        """Return every RPC by its method name, `/package.Service/Rpc`."""
        return {
            f"/{service}/{rpc.name}": rpc
            for service, descriptor in self.services.items()
            for rpc in descriptor.method
        }

    @cached_property
    def contracts(self) -> Mapping[str, MethodContract]:
        """Return what each RPC promises, by its method name; an RPC may promise nothing.

        The numbers in an option mean what this image's own enums say, not the installed ones.
        """
        names = ValueNames(
            reasons=self._value_names("error_reasons"),
            idempotency=_lower(self._value_names("idempotency")),
            roles=_lower(self._value_names("roles")),
        )
        return {
            method: read_option(method, rpc.options.Extensions[options_pb2.contract], names)
            for method, rpc in self.rpcs.items()
        }

    @cached_property
    def comments(self) -> Mapping[str, str]:
        """Return the comment of every element by full name; empty for one without.

        A field is `package.Message.field`, an enum value `package.Enum.VALUE`, an RPC
        `/package.Service/Rpc`. An image without source information has no comments.
        """
        found = {}
        for file in self.files:
            texts = {
                tuple(location.path): location.leading_comments
                for location in file.source_code_info.location
            }
            for name, path in _elements(file):
                found[name] = _unindented(texts.get(path, ""))
        return found

    def option_enum(self, field: str) -> tuple[str, EnumDescriptorProto]:
        """Return the enum behind a field of the option, by full name and as this image has it."""
        enum = options_pb2.MethodContract.DESCRIPTOR.fields_by_name[field].enum_type
        assert enum is not None
        return enum.full_name, self.enums.get(enum.full_name, EnumDescriptorProto(name=enum.name))

    def _value_names(self, field: str) -> dict[int, str]:
        _, enum = self.option_enum(field)
        return {value.number: short_name(value.name, enum.name) for value in enum.value}


def _elements(file: FileDescriptorProto) -> Iterator[tuple[str, Place]]:
    kinds: tuple[tuple[int, Sequence[_Parent], str, int, str], ...] = (
        (_MESSAGES, file.message_type, "field", _MESSAGE_FIELDS, "{0}.{1}"),
        (_ENUMS, file.enum_type, "value", _ENUM_VALUES, "{0}.{1}"),
        (_SERVICES, file.service, "method", _SERVICE_METHODS, "/{0}/{1}"),
    )
    for kind, parents, attribute, children_kind, child_name in kinds:
        for i, parent in enumerate(parents):
            name = f"{file.package}.{parent.name}"
            yield name, (kind, i)
            for j, child in enumerate(getattr(parent, attribute)):
                yield child_name.format(name, child.name), (kind, i, children_kind, j)


def _unindented(comment: str) -> str:
    lines = comment.rstrip().split("\n")
    return "\n".join(line.removeprefix(" ").rstrip() for line in lines)


def _lower(names: Mapping[int, str]) -> dict[int, str]:
    return {number: name.lower() for number, name in names.items()}

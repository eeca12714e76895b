"""The promises of each RPC, read from its method option."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf import descriptor_pool

from checkout.contract.v1 import options_pb2


class ContractIncomplete(Exception):
    """An RPC does not say what it promises."""

    def __init__(self, *, method: str, missing: str) -> None:
        super().__init__(f"{method} declares no {missing}")
        self.method = method
        self.missing = missing


@dataclass(frozen=True)
class MethodContract:
    """The promises of one RPC.

    `method` is the full name as in a call, `/package.Service/Rpc`. `transitions` are pairs of
    statuses (from, to); from is empty where the resource did not exist. Reasons have no prefix
    (`VALIDATION_FAILED`); roles and idempotency have none and are in lower case (`by_key`).
    What is not declared is empty.
    """

    method: str
    transitions: tuple[tuple[str, str], ...]
    error_reasons: frozenset[str]
    idempotency: str
    roles: frozenset[str]


@dataclass(frozen=True)
class ValueNames:
    """What the numbers in the option mean."""

    reasons: Mapping[int, str]
    idempotency: Mapping[int, str]
    roles: Mapping[int, str]


def method_contracts(service_full_name: str) -> dict[str, MethodContract]:
    """Return what a service's RPCs promise, by full method name.

    The service's generated module must have been imported. Raises KeyError for a service that
    is not known, and ContractIncomplete for an RPC without reasons, idempotency or roles.
    """
    service = descriptor_pool.Default().FindServiceByName(service_full_name)
    contracts = {}
    for rpc in service.methods:
        method = f"/{service_full_name}/{rpc.name}"
        declared = rpc.GetOptions().Extensions[options_pb2.contract]
        contracts[method] = require_complete(read_option(method, declared, INSTALLED_NAMES))
    return contracts


def read_option(
    method: str, declared: options_pb2.MethodContract, names: ValueNames
) -> MethodContract:
    """Translate an RPC's option into names, complete or not."""
    return MethodContract(
        method=method,
        transitions=tuple((getattr(arrow, "from"), arrow.to) for arrow in declared.transitions),
        error_reasons=_names(names.reasons, declared.error_reasons),
        idempotency=names.idempotency.get(declared.idempotency, str(declared.idempotency)),
        roles=_names(names.roles, declared.roles),
    )


def short_name(value: str, enum: str) -> str:
    """Take the enum's prefix off the name of a value; UNSPECIFIED becomes empty."""
    prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum).removeprefix("_")
    name = value.removeprefix(f"{prefix}_")
    return "" if name == "UNSPECIFIED" else name


def _names(names: Mapping[int, str], numbers: Iterable[int]) -> frozenset[str]:
    # A value that this version does not know keeps its number; UNSPECIFIED is no declaration.
    return frozenset(names.get(number, str(number)) for number in numbers) - {""}


def require_complete(contract: MethodContract) -> MethodContract:
    """Return the contract. Raises ContractIncomplete if it leaves something open."""
    for missing, declared in (
        ("error reasons", contract.error_reasons),
        ("idempotency", contract.idempotency),
        ("roles", contract.roles),
    ):
        if not declared:
            raise ContractIncomplete(method=contract.method, missing=missing)
    return contract


def _installed(field: str) -> Mapping[int, str]:
    enum = options_pb2.MethodContract.DESCRIPTOR.fields_by_name[field].enum_type
    assert enum is not None
    return {value.number: short_name(value.name, enum.name) for value in enum.values}


INSTALLED_NAMES: Final = ValueNames(
    reasons=_installed("error_reasons"),
    idempotency={n: name.lower() for n, name in _installed("idempotency").items()},
    roles={n: name.lower() for n, name in _installed("roles").items()},
)

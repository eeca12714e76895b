"""Every RPC of both services, and how to call it as somebody."""

from types import MappingProxyType
from typing import Final

from service_kit.contract.method_contracts import MethodContract, method_contracts
from tests.checkout import Checkout
from tests.client import (
    ALICE,
    OPERATIONS,
    ORDER_SERVICE,
    ORDER_SERVICE_NAME,
    PAYMENT_SERVICE_NAME,
    SHOP,
    Caller,
    Client,
)

CONTRACTS: Final = (
    *method_contracts(ORDER_SERVICE_NAME).values(),
    *method_contracts(PAYMENT_SERVICE_NAME).values(),
)
CALLER_OF_ROLE: Final = MappingProxyType(
    {caller.role: caller for caller in (ALICE, SHOP, OPERATIONS, ORDER_SERVICE)}
)


def rpc_of(contract: MethodContract) -> str:
    """Return the RPC's short name."""
    return contract.method.rpartition("/")[2]


def is_of_orders(contract: MethodContract) -> bool:
    """Say whether it is the order service's."""
    return contract.method.startswith(f"/{ORDER_SERVICE_NAME}/")


def client_for(checkout: Checkout, contract: MethodContract, caller: Caller) -> Client:
    """Return a client of the service that has the RPC."""
    return checkout.orders(caller) if is_of_orders(contract) else checkout.payments(caller)


def permitted_client(checkout: Checkout, contract: MethodContract) -> Client:
    """Return a client that may call the RPC."""
    return client_for(checkout, contract, CALLER_OF_ROLE[min(contract.roles)])

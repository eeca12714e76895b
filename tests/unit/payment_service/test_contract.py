"""What the contract promises of each RPC is what its use case does."""

import pytest

from payment_service.application.process_payment import ProcessPayment
from payment_service.application.refund_payment import RefundPayment
from payment_service.application.resolve_payment import ResolvePayment
from payment_service.application.seal_order import SealOrder
from payment_service.domain.state_machine import (
    PAYMENT_TRANSITIONS,
    REFUND_TRANSITIONS,
    PaymentAction,
    RefundAction,
)
from payment_service.rpc.errors import ERROR_ROWS
from payment_service.rpc.servicer import SERVICE
from service_kit.contract.method_contracts import method_contracts
from service_kit.error_table import KIT_ROWS

CONTRACTS = {
    name.rpartition("/")[2]: contract for name, contract in method_contracts(SERVICE).items()
}
ACTIONS: dict[str, tuple[PaymentAction | RefundAction, ...]] = {
    "ProcessPayment": ProcessPayment.actions,
    "RefundPayment": RefundPayment.actions,
    "ResolvePayment": ResolvePayment.actions,
    "SealOrder": SealOrder.actions,
}


def arrows(actions: tuple[PaymentAction | RefundAction, ...]) -> set[tuple[str, str]]:
    tables = (*PAYMENT_TRANSITIONS.items(), *REFUND_TRANSITIONS.items())
    return {
        (source.value if source else "", target.value)
        for (source, action), target in tables
        if action in actions
    }


@pytest.mark.parametrize("rpc", CONTRACTS)
def test_an_rpc_makes_the_transitions_that_it_declares(rpc: str) -> None:
    assert set(CONTRACTS[rpc].transitions) == arrows(ACTIONS.get(rpc, ()))


def test_every_action_is_some_rpcs() -> None:
    assert {action for actions in ACTIONS.values() for action in actions} == {
        *PaymentAction,
        *RefundAction,
    }


def test_every_reason_that_is_declared_has_a_row_and_every_row_is_declared() -> None:
    declared = set().union(*(contract.error_reasons for contract in CONTRACTS.values()))
    ours = {row.reason for row in ERROR_ROWS.values()}
    kits = {row.reason for row in KIT_ROWS.values()} | {"INTERNAL"}
    assert declared <= ours | kits
    assert ours <= declared

"""Who may call what, and whose orders and payments there are for whom."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from service_kit.contract.method_contracts import MethodContract
from tests.assertions import refused
from tests.builders import request_type
from tests.checkout import Checkout
from tests.client import (
    ALICE,
    BOB,
    ORDER_SERVICE_NAME,
    SHOP,
    Caller,
)
from tests.contract.proto_copy import ORDER_SERVICE as ORDER_SERVICE_PROTO
from tests.contract.proto_copy import ROOT, ProtoCopy
from tests.system.every_rpc import CALLER_OF_ROLE, CONTRACTS, client_for, is_of_orders, rpc_of
from tests.system.simultaneously import outcome_of, reason_of


@pytest.mark.requirement("FR-230")
@pytest.mark.parametrize("role", CALLER_OF_ROLE)
@pytest.mark.parametrize("contract", CONTRACTS, ids=rpc_of)
class TestEveryRpc:
    def test_lets_in_the_roles_it_declares_and_nobody_else(
        self, checkout: Checkout, contract: MethodContract, role: str
    ) -> None:
        rpc, client = rpc_of(contract), client_for(checkout, contract, CALLER_OF_ROLE[role])
        if role in contract.roles:
            # An empty request gets as far as its validation, or is answered.
            assert reason_of(outcome_of(lambda: client.send(rpc, b""))) in {
                "OK",
                "VALIDATION_FAILED",
            }
        else:
            with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED") as refusal:
                client.send(rpc, b"")
            assert refusal.metadata == {"role": role, "method": rpc}


@pytest.mark.requirement("FR-230")
@pytest.mark.parametrize("contract", CONTRACTS, ids=rpc_of)
class TestIdentity:
    @pytest.mark.parametrize(
        ("metadata", "header"),
        [
            pytest.param((), "x-actor-id", id="nothing"),
            pytest.param((("x-actor-role", "customer"),), "x-actor-id", id="no id"),
            pytest.param((("x-actor-id", "alice"),), "x-actor-role", id="no role"),
            pytest.param(
                (("x-actor-id", "alice"), ("x-actor-role", "admin")),
                "x-actor-role",
                id="a role that does not exist",
            ),
            pytest.param(
                (("x-actor-id", "two words"), ("x-actor-role", "customer")),
                "x-actor-id",
                id="an id that cannot be read",
            ),
            pytest.param(
                (("x-actor-id", "order-service"), ("x-actor-role", "operations")),
                "x-actor-id",
                id="the reserved id",
            ),
            pytest.param(
                (("x-actor-id", "shop-backend"), ("x-actor-role", "order_service")),
                "x-actor-id",
                id="the reserved role",
            ),
            pytest.param(
                (
                    ("x-actor-id", "shop-backend"),
                    ("x-actor-role", "service"),
                    ("x-on-behalf-of", "a b"),
                ),
                "x-on-behalf-of",
                id="a person that cannot be read",
            ),
        ],
    )
    def test_is_demanded_before_anything_else(
        self,
        checkout: Checkout,
        contract: MethodContract,
        metadata: tuple[tuple[str, str], ...],
        header: str,
    ) -> None:
        client = client_for(checkout, contract, Nobody(metadata))
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING") as refusal:
            client.send(rpc_of(contract), b"\xff")
        assert refusal.metadata == {"header": header}


class Nobody(Caller):
    """A caller with just this metadata."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        super().__init__(role="", id="", extra=metadata)

    def metadata(self) -> list[tuple[str, str | bytes]]:
        return list(self.extra)


NAME_AN_ORDER = [
    contract
    for contract in CONTRACTS
    if is_of_orders(contract)
    and "order_id" in request_type(rpc_of(contract)).DESCRIPTOR.fields_by_name
    and "customer" in contract.roles
]


@pytest.mark.requirement("FR-226")
class TestSomebodyElsesOrder:
    def test_is_asked_for_by_these_rpcs(self) -> None:
        assert {rpc_of(contract) for contract in NAME_AN_ORDER} == {
            "GetOrder",
            "PayOrder",
            "MarkOrderPaid",
            "CancelOrder",
        }

    @pytest.mark.parametrize("contract", NAME_AN_ORDER, ids=rpc_of)
    @pytest.mark.parametrize("order_exists", [True, False])
    def test_is_not_there(
        self, checkout: Checkout, contract: MethodContract, *, order_exists: bool
    ) -> None:
        """The same answer whether it exists or not: nobody learns of an order by asking."""
        rpc, order = rpc_of(contract), checkout.place(ALICE)
        order_id = order.id if order_exists else "ord_unknown"
        fields: dict[str, Any] = {"order_id": order_id}
        if rpc == "PayOrder":
            fields["payment_token"] = "tok_visa"
        if rpc == "MarkOrderPaid":
            fields["transaction_id"] = checkout.process(checkout.place(BOB), caller=BOB).id
        with refused(grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND") as refusal:
            getattr(checkout.orders(BOB), rpc)(**fields)
        assert refusal.resource == ("checkout.order.v1.Order", order_id)
        assert refusal.metadata == {"order_id": order_id}
        assert checkout.order(order.id) == order

    def test_is_not_in_the_list(self, checkout: Checkout) -> None:
        order = checkout.place(ALICE)
        assert order.id not in {o.id for o in checkout.orders(BOB).ListOrders().orders}

    def test_cannot_be_listed_by_its_customers_name(self, checkout: Checkout) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            checkout.orders(BOB).ListOrders(customer_id="alice")
        assert list(refusal.violations) == ["customer_id"]

    def test_cannot_be_placed(self, checkout: Checkout) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            checkout.place(BOB, customer_id="alice")
        assert "customer_id" in refusal.violations


@pytest.mark.requirement("FR-120", "FR-102", "FR-218")
class TestSomebodyElsesPayment:
    def test_is_not_there(self, checkout: Checkout) -> None:
        payment = checkout.process(checkout.place(ALICE))
        for payment_id in (payment.id, "pay_unknown"):
            with refused(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND") as refusal:
                checkout.payments(BOB).GetPayment(payment_id=payment_id)
            assert refusal.resource == ("checkout.payment.v1.Payment", payment_id)
        assert list(checkout.payments(BOB).ListPayments(order_id=payment.order_id).payments) == []

    def test_cannot_be_listed_by_its_customers_name(self, checkout: Checkout) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            checkout.payments(BOB).ListPayments(customer_id="alice")
        assert list(refusal.violations) == ["customer_id"]

    def test_does_not_pay_for_ones_own_order(self, checkout: Checkout) -> None:
        payment = checkout.process(checkout.place(ALICE))
        order = checkout.place(BOB)
        with refused(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND"):
            checkout.orders(BOB).MarkOrderPaid(order_id=order.id, transaction_id=payment.id)

    def test_cannot_be_made_with_their_ticket(self, checkout: Checkout) -> None:
        order = checkout.place(ALICE)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "PAYMENT_TICKET_INVALID"):
            checkout.process(order, caller=BOB)
        assert checkout.ledger.charges(order.id) == []


class TestABackend:
    @pytest.mark.requirement("FR-203")
    def test_must_say_whose_order_it_is(self, checkout: Checkout) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            checkout.place(SHOP)
        assert "customer_id" in refusal.violations
        assert checkout.place(SHOP, customer_id="alice").customer_id == "alice"

    @pytest.mark.requirement("FR-230")
    def test_acts_for_a_person_who_is_in_both_histories_and_decides_nothing(
        self, checkout: Checkout
    ) -> None:
        shop = SHOP.with_metadata(("x-on-behalf-of", "alice"))
        order = checkout.place(shop, customer_id="bob")
        checkout.pay(order, caller=shop)
        orders = checkout.history(order.id)
        assert {(e.actor_id, e.on_behalf_of) for e in orders} == {("shop-backend", "alice")}
        payments = checkout.payment_history(order.id)
        assert {(e.actor_id, e.on_behalf_of) for e in payments} == {("order-service", "alice")}

    @pytest.mark.requirement("FR-230")
    def test_acts_for_itself_if_it_names_nobody(self, checkout: Checkout) -> None:
        order = checkout.place(SHOP, customer_id="bob")
        checkout.pay(order, caller=SHOP)
        assert {e.on_behalf_of for e in checkout.history(order.id)} == {""}
        payments = checkout.payment_history(order.id)
        assert {(e.actor_id, e.on_behalf_of) for e in payments} == {
            ("order-service", "shop-backend")
        }

    @pytest.mark.requirement("FR-230")
    def test_a_customer_cannot_act_for_somebody(self, checkout: Checkout) -> None:
        alice = ALICE.with_metadata(("x-on-behalf-of", "bob"))
        order = checkout.place(alice)
        assert order.customer_id == "alice"
        [entry] = checkout.history(order.id)
        assert (entry.actor_id, entry.on_behalf_of) == ("alice", "")


@pytest.mark.requirement("FR-230")
class TestAServiceWithAnRpcThatDoesNotSayWhoMayCall:
    def test_does_not_start_and_names_the_rpc(self, tmp_path: Path) -> None:
        copy = ProtoCopy(tmp_path)
        copy.edit_rpc(ORDER_SERVICE_PROTO, "RefundOrder", "roles: [ROLE_OPERATIONS]", "")
        generated = tmp_path / "generated"
        shutil.copytree(ROOT / "generated", generated)
        options = [f"-I{tmp_path / 'proto'}", f"--python_out={generated}"]
        source = f"checkout/{ORDER_SERVICE_PROTO}"
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", *options, source], check=True, timeout=60
        )
        started = subprocess.run(
            [sys.executable, "-m", "order_service", "serve"],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, (generated, ROOT))),
                "CHECKOUT_DATA_DIR": str(tmp_path / "data"),
                "ORDER_SERVICE_PORT": "0",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert started.returncode != 0
        assert f"/{ORDER_SERVICE_NAME}/RefundOrder declares no roles" in started.stderr

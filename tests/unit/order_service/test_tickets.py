"""Payment tickets."""

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest

from order_service.domain.money import Money
from order_service.domain.state_machine import OrderStatus
from order_service.gateways.tickets import ticket_signer
from tests.unit.order_service.builders import KEY_OF_TESTS, new_order

sign = ticket_signer(KEY_OF_TESTS)


@pytest.mark.requirement("FR-201")
class TestTicket:
    def test_states_order_customer_and_amount_and_nothing_else(self) -> None:
        order = new_order(customer_id="alice", total=Money("KWD", 4000))
        claims = jwt.decode(
            sign(order),
            KEY_OF_TESTS,
            algorithms=["HS256"],
            audience="payment-service",
            issuer="order-service",
        )

        assert claims == {
            "iss": "order-service",
            "aud": "payment-service",
            "order_id": order.id,
            "customer_id": "alice",
            "currency_code": "KWD",
            "minor_units": 4000,
        }

    def test_is_what_a_library_makes_of_its_claims(self) -> None:
        ticket = sign(new_order(customer_id="zoë"))
        claims = jwt.decode(ticket, KEY_OF_TESTS, algorithms=["HS256"], audience="payment-service")

        class Unescaped(json.JSONEncoder):
            def __init__(self, **options: Any) -> None:
                super().__init__(**{**options, "ensure_ascii": False})

        made = jwt.encode(claims, KEY_OF_TESTS, algorithm="HS256", json_encoder=Unescaped)
        assert ticket == made

    def test_is_the_same_for_the_same_order_whenever_it_is_signed(self) -> None:
        order = new_order()

        assert sign(order) == sign(replace(order, status=OrderStatus.PAID, payment_id="pay_1"))

    def test_of_another_key_is_another(self) -> None:
        order = new_order()

        assert ticket_signer(bytes(32))(order) != sign(order)

    def test_of_the_longest_order_fits_into_its_field(self) -> None:
        order = new_order(
            id="o" * 64, customer_id="\N{GRINNING FACE}" * 256, total=Money("EUR", 10**12)
        )

        assert len(sign(order)) <= 2048

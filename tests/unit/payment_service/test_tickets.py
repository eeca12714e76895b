"""A ticket is believed if the order service signed exactly this statement."""

import json
from typing import Any

import jwt
import pytest

from payment_service.domain.errors import PaymentTicketInvalid
from payment_service.domain.money import Money
from payment_service.domain.ticket import PaymentTicket
from payment_service.gateways.tickets import TicketReader

KEY = b"a key of the tests, of 32 bytes.."
CLAIMS = {
    "iss": "order-service",
    "aud": "payment-service",
    "order_id": "ord_1",
    "customer_id": "alice",
    "currency_code": "EUR",
    "minor_units": 4000,
}


def sign(claims: dict[str, Any], key: bytes = KEY) -> str:
    return jwt.encode(claims, key, algorithm="HS256")


def test_a_ticket_states_order_customer_and_amount() -> None:
    assert TicketReader(KEY).read(sign(CLAIMS)) == PaymentTicket(
        order_id="ord_1", customer_id="alice", amount=Money("EUR", 4000)
    )


@pytest.mark.parametrize("missing", CLAIMS)
def test_a_ticket_that_says_less_is_refused(missing: str) -> None:
    claims = {name: value for name, value in CLAIMS.items() if name != missing}
    with pytest.raises(PaymentTicketInvalid):
        TicketReader(KEY).read(sign(claims))


@pytest.mark.parametrize("more", ["exp", "iat", "nbf", "discount"])
def test_a_ticket_that_says_more_is_refused(more: str) -> None:
    with pytest.raises(PaymentTicketInvalid):
        TicketReader(KEY).read(sign({**CLAIMS, more: 1}))


def test_a_ticket_of_another_key_is_refused() -> None:
    with pytest.raises(PaymentTicketInvalid):
        TicketReader(KEY).read(sign(CLAIMS, b"another key of the tests, 32 bytes"))


def test_a_ticket_that_was_altered_is_refused() -> None:
    head, _, signature = sign(CLAIMS).split(".")
    body = json.dumps({**CLAIMS, "minor_units": 1}).encode()
    altered = ".".join((head, jwt.utils.base64url_encode(body).decode(), signature))
    with pytest.raises(PaymentTicketInvalid):
        TicketReader(KEY).read(altered)


def test_an_unsigned_ticket_is_refused() -> None:
    with pytest.raises(PaymentTicketInvalid):
        TicketReader(KEY).read(jwt.encode(CLAIMS, "", algorithm="none"))


@pytest.mark.parametrize("text", ["", ".", "a.b.c", "ü", "x" * 2048])
def test_what_is_no_ticket_is_refused(text: str) -> None:
    with pytest.raises(PaymentTicketInvalid):
        TicketReader(KEY).read(text)

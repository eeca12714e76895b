"""A card number is refused wherever it stands, and is left nowhere."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from service_kit.contract.method_contracts import MethodContract
from tests.assertions import refused
from tests.builders import money, new_request, request_type
from tests.captured_log import captured_log
from tests.checkout import Checkout
from tests.client import (
    Caller,
)
from tests.system.checkouts import Checkouts
from tests.system.every_rpc import CONTRACTS, permitted_client, rpc_of
from tests.system.files import folder_of, holding
from tests.system.simultaneously import outcome_of, reason_of

CARD_NUMBER = "4242 4242 4242 4242"


def string_fields(descriptor: Any) -> Iterator[tuple[str, ...]]:
    """Walk to every string field of a message: the names on the way."""
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (field.name,)
        elif field.message_type is not None:
            for path in string_fields(field.message_type):
                yield (field.name, *path)


STRING_FIELDS = [
    (contract, path)
    for contract in CONTRACTS
    for path in string_fields(request_type(rpc_of(contract)).DESCRIPTOR)
]


def with_text_at(message: Any, path: tuple[str, ...], text: str) -> str:
    """Put a text into a field of a message, and return the field's path as services name it."""
    name, *rest = path
    if not rest:
        setattr(message, name, text)
        return name
    field = getattr(message, name)
    if message.DESCRIPTOR.fields_by_name[name].is_repeated:
        return f"{name}[0].{with_text_at(field.add(), tuple(rest), text)}"
    return f"{name}.{with_text_at(field, tuple(rest), text)}"


@pytest.mark.requirement("FR-233")
class TestACardNumber:
    def test_is_looked_for_in_every_text_there_is(self) -> None:
        assert len(STRING_FIELDS) > 40

    @pytest.mark.parametrize(
        ("contract", "path"),
        STRING_FIELDS,
        ids=lambda part: rpc_of(part) if isinstance(part, MethodContract) else ".".join(part),
    )
    def test_threat_07_is_refused_wherever_it_stands(
        self, checkout: Checkout, contract: MethodContract, path: tuple[str, ...]
    ) -> None:
        rpc, client = rpc_of(contract), permitted_client(checkout, contract)
        request = new_request(rpc)
        field = with_text_at(request, path, CARD_NUMBER)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "CARD_DATA_NOT_ACCEPTED") as refusal:
            client.answer(rpc, request)
        assert refusal.metadata == {"field": field}
        assert list(refusal.violations) == [field]
        assert CARD_NUMBER not in str(refusal.status)

    def test_threat_07_is_refused_as_an_identity(self, checkout: Checkout) -> None:
        caller = Caller("customer", CARD_NUMBER.replace(" ", "-"))
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING"):
            checkout.orders(caller).ListOrders()

    def test_threat_07_is_in_no_log_and_no_file(self, checkouts: Checkouts) -> None:
        number = CARD_NUMBER.replace(" ", "")
        with captured_log() as log, checkouts.running() as checkout:
            paid = checkout.paid()
            checkout.refund(paid, money(1))
            for contract, path in STRING_FIELDS:
                request = new_request(rpc_of(contract))
                with_text_at(request, path, number)
                call = partial(
                    permitted_client(checkout, contract).answer, rpc_of(contract), request
                )
                assert reason_of(outcome_of(call)) == "CARD_DATA_NOT_ACCEPTED"
            folder = folder_of(checkout)
            assert not holding(folder, number.encode(), "*")
        assert number not in log.text
        assert not holding(folder, number.encode(), "*")

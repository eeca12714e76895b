"""A card number is refused wherever it stands, and is left nowhere."""

from functools import partial

import grpc
import pytest

from service_kit.contract.method_contracts import MethodContract
from tests.assertions import refused
from tests.builders import money, new_request
from tests.captured_log import captured_log
from tests.checkout import Checkout
from tests.client import (
    Caller,
)
from tests.system.checkouts import Checkouts
from tests.system.every_rpc import permitted_client, rpc_of
from tests.system.files import folder_of, holding
from tests.system.simultaneously import outcome_of, reason_of
from tests.system.text_fields import STRING_FIELDS, with_text_at

CARD_NUMBER = "4242 4242 4242 4242"


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

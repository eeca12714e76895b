"""GetPayment, ListPayments, ListPaymentAuditEntries: who sees what, page by page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from checkout.payment.v1 import payment_pb2
from service_kit.ids import new_id
from tests.assertions import refused
from tests.client import ALICE, BOB, OPERATIONS, ORDER_SERVICE, SHOP, Caller
from tests.integration.payment_service.desk import Desk, running_desk

FAILED = payment_pb2.PAYMENT_STATUS_FAILED
SUCCEEDED = payment_pb2.PAYMENT_STATUS_SUCCEEDED


def ids(response: Any) -> list[str]:
    return [payment.id for payment in response.payments]


@pytest.fixture(params=["sqlite_url", "postgres_url"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """The service over a database of the test's own: here the whole of it is read."""
    with running_desk(tmp_path, request.getfixturevalue(request.param)) as desk:
        yield desk


class TestGetPayment:
    @pytest.mark.parametrize("caller", [ALICE, SHOP, OPERATIONS, ORDER_SERVICE], ids=str)
    def test_shows_a_payment_to(self, desk: Desk, caller: Caller) -> None:
        payment = desk.process()
        assert desk.as_(caller).GetPayment(payment_id=payment.id).payment == payment

    def test_knows_nothing_of_somebody_elses_or_of_none(self, desk: Desk) -> None:
        payment = desk.process()
        for payment_id in (payment.id, "pay_nobody_made"):
            with refused(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND") as refusal:
                desk.as_(BOB).GetPayment(payment_id=payment_id)
            assert refusal.metadata == {"payment_id": payment_id}
            assert refusal.resource == ("checkout.payment.v1.Payment", payment_id)


class TestListPayments:
    @pytest.fixture
    def made(self, desk: Desk) -> list[payment_pb2.Payment]:
        """Five payments, newest first: the second was declined, the third is Bob's."""
        tokens = ["tok_visa", "tok_visa", "tok_visa", "tok_chargeDeclined", "tok_visa"]
        customers = ["alice", "alice", "bob", "alice", "alice"]
        made = [desk.process(t, customer_id=c) for t, c in zip(tokens, customers, strict=True)]
        return made[::-1]

    def test_is_newest_first(self, desk: Desk, made: list[payment_pb2.Payment]) -> None:
        response = desk.calls.ListPayments()
        assert list(response.payments) == made
        assert response.next_page_token == ""

    def test_goes_from_page_to_page(self, desk: Desk, made: list[payment_pb2.Payment]) -> None:
        pages, token = [], ""
        while True:
            page = desk.calls.ListPayments(page_size=2, page_token=token)
            pages.append(ids(page))
            token = page.next_page_token
            if not token:
                break
        expected = [payment.id for payment in made]
        assert pages == [expected[:2], expected[2:4], expected[4:]]

    def test_has_no_next_page_when_the_last_is_full(
        self, desk: Desk, made: list[payment_pb2.Payment]
    ) -> None:
        assert desk.calls.ListPayments(page_size=5).next_page_token == ""

    def test_shows_a_customer_their_own(self, desk: Desk, made: list[payment_pb2.Payment]) -> None:
        assert ids(desk.as_(BOB).ListPayments()) == [made[2].id]
        assert ids(desk.as_(BOB).ListPayments(customer_id="bob")) == [made[2].id]
        assert len(ids(desk.as_(ALICE).ListPayments())) == 4

    def test_refuses_a_customer_who_names_another(self, desk: Desk) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            desk.as_(BOB).ListPayments(customer_id="alice")
        assert set(refusal.violations) == {"customer_id"}

    def test_filters(self, desk: Desk, made: list[payment_pb2.Payment]) -> None:
        assert ids(desk.calls.ListPayments(customer_id="bob")) == [made[2].id]
        assert ids(desk.calls.ListPayments(status=FAILED)) == [made[1].id]
        assert ids(desk.calls.ListPayments(order_id=made[3].order_id)) == [made[3].id]
        assert ids(desk.calls.ListPayments(order_id=made[3].order_id, status=FAILED)) == []
        assert len(ids(desk.calls.ListPayments(customer_id="alice", status=SUCCEEDED))) == 3

    @pytest.mark.parametrize("page_size", [-1, 101])
    def test_refuses_a_page_of(self, desk: Desk, page_size: int) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            desk.calls.ListPayments(page_size=page_size)
        assert refusal.violations == {"page_size": "must be 0 to 100"}

    def test_refuses_a_status_that_does_not_exist(self, desk: Desk) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            desk.calls.ListPayments(status=77)
        assert set(refusal.violations) == {"status"}

    @pytest.mark.parametrize(
        ("caller", "fields"),
        [
            (SHOP, {}),
            (ORDER_SERVICE, {"customer_id": "alice"}),
            (ORDER_SERVICE, {"status": SUCCEEDED}),
            (ORDER_SERVICE, {"order_id": "ord_1"}),
        ],
        ids=["caller", "customer", "status", "order"],
    )
    def test_refuses_a_token_of_another(
        self,
        desk: Desk,
        made: list[payment_pb2.Payment],
        caller: Caller,
        fields: dict[str, Any],
    ) -> None:
        token = desk.calls.ListPayments(page_size=1).next_page_token
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"):
            desk.as_(caller).ListPayments(page_token=token, **fields)


class TestListPaymentAuditEntries:
    def test_ascends_and_goes_on_from_the_last_number(self, desk: Desk) -> None:
        for _ in range(3):
            desk.process()
        first = desk.calls.ListPaymentAuditEntries(page_size=4).entries
        rest = desk.calls.ListPaymentAuditEntries(after_sequence=first[-1].sequence).entries
        numbers = [entry.sequence for entry in (*first, *rest)]
        assert len(numbers) == 6
        assert numbers == sorted(numbers)
        last = desk.calls.ListPaymentAuditEntries(after_sequence=numbers[-1])
        assert list(last.entries) == []

    def test_of_one_order(self, desk: Desk) -> None:
        payment = desk.process()
        desk.process()
        desk.refund(payment, 1)
        assert desk.events(payment.order_id) == [
            "payment_requested",
            "payment_succeeded",
            "refund_requested",
            "refund_succeeded",
        ]

    def test_tells_who_called_for_whom_under_which_trace(self, desk: Desk) -> None:
        caller = ORDER_SERVICE.with_metadata(
            ("x-on-behalf-of", "alice"), ("x-trace-id", "4bf92f3577b34da6a3ce929d0e0e4736")
        )
        order_id = new_id("ord_")
        desk.as_(caller).SealOrder(order_id=order_id)
        [entry] = desk.history(order_id)
        assert (entry.actor_id, entry.on_behalf_of) == ("order-service", "alice")
        assert entry.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"

    @pytest.mark.parametrize("caller", [ALICE, SHOP], ids=lambda caller: caller.role)
    def test_is_not_for(self, desk: Desk, caller: Caller) -> None:
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            desk.as_(caller).ListPaymentAuditEntries()

    def test_refuses_a_number_below_zero(self, desk: Desk) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            desk.calls.ListPaymentAuditEntries(after_sequence=-1)
        assert refusal.violations == {"after_sequence": "must be 0 or more"}

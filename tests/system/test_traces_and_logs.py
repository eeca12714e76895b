"""One trace from the caller to both histories and both logs, and nothing secret on the way."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.assertions import refused
from tests.builders import new_key, new_request, new_trace_id
from tests.captured_log import CapturedLog, captured_log
from tests.checkout import SECRET, Checkout
from tests.client import (
    ALICE,
    OPERATIONS,
    ORDER_SERVICE_NAME,
    PAYMENT_SERVICE_NAME,
    SHOP,
    Caller,
)
from tests.system.checkouts import Checkouts
from tests.system.files import folder_of, holding
from tests.system.simultaneously import outcome_of


@pytest.fixture(scope="module")
def log() -> Iterator[CapturedLog]:
    """What both services of the module write."""
    with captured_log() as log:
        yield log


@pytest.fixture(scope="module")
def checkout(checkouts: Checkouts, log: CapturedLog) -> Iterator[Checkout]:
    """A checkout whose log is read."""
    with checkouts.running() as running:
        yield running


def traceparent(trace_id: str) -> tuple[str, str]:
    return ("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01")


def own_header(trace_id: str) -> tuple[str, str]:
    return ("x-trace-id", trace_id)


@pytest.mark.requirement("FR-232", "FR-122")
class TestATrace:
    @pytest.mark.parametrize("header", [traceparent, own_header], ids=["traceparent", "x-trace-id"])
    def test_goes_from_the_caller_to_both_histories_and_both_logs(
        self, checkout: Checkout, log: CapturedLog, header: Callable[[str], tuple[str, str]]
    ) -> None:
        order = checkout.place()
        trace_id = new_trace_id()
        client = checkout.orders(ALICE.with_metadata(header(trace_id)))
        answer = client.answer("PayOrder", order_id=order.id, payment_token="tok_visa")
        assert answer.trailers["x-trace-id"] == trace_id
        assert checkout.history(order.id)[-1].trace_id == trace_id
        assert {entry.trace_id for entry in checkout.payment_history(order.id)} == {trace_id}
        lines = [line for line in log.lines("rpc") if line["trace_id"] == trace_id]
        assert [line["method"] for line in lines] == [
            f"/{PAYMENT_SERVICE_NAME}/ProcessPayment",
            f"/{ORDER_SERVICE_NAME}/PayOrder",
        ]

    @pytest.mark.parametrize("rpc", ["CancelOrder", "RefundOrder", "MarkOrderPaid"])
    def test_goes_along_with_every_question_to_the_payment_service(
        self, checkout: Checkout, log: CapturedLog, rpc: str
    ) -> None:
        order = checkout.paid() if rpc == "RefundOrder" else checkout.place()
        fields = {"order_id": order.id}
        if rpc == "MarkOrderPaid":
            fields["transaction_id"] = checkout.process(order).id
        trace_id = new_trace_id()
        caller = OPERATIONS.with_metadata(traceparent(trace_id))
        checkout.orders(caller).answer(rpc, new_request(rpc, **fields))
        lines = [line for line in log.lines("rpc") if line["trace_id"] == trace_id]
        asked, answered = (line["method"].split("/")[1] for line in lines)
        assert (asked, answered) == (PAYMENT_SERVICE_NAME, ORDER_SERVICE_NAME)

    @pytest.mark.parametrize(
        "headers",
        [
            (),
            (("traceparent", "garbage"),),
            (("traceparent", f"00-{'0' * 32}-00f067aa0ba902b7-01"),),
            (("x-trace-id", "0" * 32),),
            (("x-trace-id", "short"),),
        ],
        ids=["nothing", "garbage", "zeros in traceparent", "zeros", "too short"],
    )
    def test_begins_here_if_the_caller_brings_none_that_is_valid(
        self, checkout: Checkout, headers: tuple[tuple[str, str], ...]
    ) -> None:
        client = checkout.orders(ALICE.with_metadata(*headers))
        trace_ids = {client.answer("ListOrders").trailers["x-trace-id"] for _ in range(2)}
        assert len(trace_ids) == 2
        assert all(re.fullmatch("[0-9a-f]{32}", trace_id) for trace_id in trace_ids)
        assert "0" * 32 not in trace_ids

    def test_of_a_replay_is_the_repeats_own(self, checkout: Checkout, log: CapturedLog) -> None:
        key, order = new_key(), checkout.place()
        first, again = new_trace_id(), new_trace_id()
        for trace_id in (first, again):
            client = checkout.orders(ALICE.with_metadata(own_header(trace_id)))
            answer = client.answer(
                "PayOrder", idempotency_key=key, order_id=order.id, payment_token="tok_visa"
            )
            assert answer.trailers["x-trace-id"] == trace_id
        assert checkout.history(order.id)[-1].trace_id == first
        [line] = [line for line in log.lines("rpc") if line["trace_id"] == again]
        assert line["replayed"] == "database"


@pytest.mark.requirement("FR-232")
class TestTheLog:
    def test_has_one_line_for_each_call(self, checkout: Checkout, log: CapturedLog) -> None:
        trace_id = new_trace_id()
        shop = SHOP.with_metadata(own_header(trace_id), ("x-on-behalf-of", "alice"))
        order = checkout.place(shop, customer_id="alice")
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            checkout.orders(shop).RefundOrder(order_id=order.id)
        served, denied = (line for line in log.lines("rpc") if line["trace_id"] == trace_id)
        assert served["method"] == f"/{ORDER_SERVICE_NAME}/CreateOrder"
        assert (served["code"], served["reason"], served["replayed"]) == ("OK", "", "")
        assert (served["caller"], served["role"]) == ("shop-backend", "service")
        assert served["on_behalf_of"] == "alice"
        assert 0 < served["duration_ms"] < 10_000
        assert (denied["code"], denied["reason"]) == ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")

    def test_has_a_line_for_calls_without_an_identity_too(
        self, checkout: Checkout, log: CapturedLog
    ) -> None:
        trace_id = new_trace_id()
        with pytest.raises(grpc.RpcError):
            checkout.orders(Caller("nobody", "x", (own_header(trace_id),))).ListOrders()
        [line] = [line for line in log.lines("rpc") if line["trace_id"] == trace_id]
        assert (line["code"], line["reason"]) == ("UNAUTHENTICATED", "CREDENTIALS_MISSING")


@pytest.mark.requirement("FR-126", "FR-232")
class TestSecrets:
    TOKENS = ("tok_visa", "tok_chargeDeclined", "tok_timeoutAfterCharge", "tok_unheardOf")

    def test_are_in_no_log(self, checkout: Checkout, log: CapturedLog) -> None:
        tickets = [self.use(checkout, token) for token in self.TOKENS]
        for secret in (*tickets, SECRET, "tok_"):
            assert secret not in log.text

    def test_are_in_no_history(self, checkout: Checkout) -> None:
        for token in self.TOKENS:
            self.use(checkout, token)
        for history in (checkout.history(), checkout.payment_history()):
            assert "tok_" not in str(history)

    def test_of_a_payment_are_forgotten_when_it_is_final(self, checkouts: Checkouts) -> None:
        """While it is pending the payment database keeps the token, which it must send again."""
        with checkouts.running() as checkout:
            order = checkout.place()
            fields = {
                "idempotency_key": new_key(),
                "payment_ticket": order.payment_ticket,
                "payment_token": "tok_timeoutBeforeCharge",
            }
            checkout.payments().ProcessPayment(**fields)
            assert stored_tokens(checkout) == ["tok_timeoutBeforeCharge"]
            checkout.payments().ProcessPayment(**fields)
            for token in ("tok_visa", "tok_chargeDeclined", "tok_mastercard"):
                checkout.process(checkout.place(), token)
            assert stored_tokens(checkout) == []
            files = folder_of(checkout)
        assert not holding(files, b"tok_chargeDeclined", "order*", "gateway*")
        assert not holding(files, SECRET.encode(), "*")

    @staticmethod
    def use(checkout: Checkout, token: str) -> str:
        """Let a token go through everything, and return the order's ticket."""
        order = checkout.place()
        fields = {"idempotency_key": new_key(), "order_id": order.id, "payment_token": token}
        for _ in range(2):
            outcome_of(
                lambda: checkout.orders().answer("PayOrder", new_request("PayOrder", **fields))
            )
        outcome_of(
            lambda: checkout.payments().answer(
                "ProcessPayment", payment_ticket=order.payment_ticket, payment_token=token
            )
        )
        return order.payment_ticket


def stored_tokens(checkout: Checkout) -> list[str]:
    """The payment tokens that the payment database holds."""

    def read(connection: Any) -> list[str]:
        query = "SELECT payment_token FROM payments WHERE payment_token IS NOT NULL"
        return list(connection.exec_driver_sql(query).scalars().all())

    return checkout.payment_database.read(read)

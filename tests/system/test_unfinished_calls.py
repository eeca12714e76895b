"""Calls without a final answer: nothing is stored, or an operation is, to be continued."""

import contextlib
from datetime import timedelta
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from order_service.storage.tables import idempotency_keys, payment_operations
from service_kit.idempotency.keys import LEASE
from tests.assertions import refused
from tests.builders import new_key
from tests.checkout import Checkout


@pytest.mark.requirement("FR-209")
class TestAnAnswerThatIsNotFinal:
    """Nothing is stored under its key: the same key executes the corrected request."""

    @pytest.fixture
    def key(self) -> str:
        """A key that is refused first and used afterwards."""
        return new_key()

    def expect_free(self, checkout: Checkout, key: str) -> None:
        query = sa.select(idempotency_keys).where(idempotency_keys.c.idempotency_key == key)
        assert checkout.order_database.read(lambda c: c.execute(query).all()) == []
        # Another method and other fields: as if it had never been seen.
        assert checkout.place(idempotency_key=key).id

    def test_for_wrong_fields(self, remembering: Checkout, key: str) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            remembering.place(idempotency_key=key, items=[])
        self.expect_free(remembering, key)

    def test_for_a_card_number(self, remembering: Checkout, key: str) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "CARD_DATA_NOT_ACCEPTED"):
            remembering.orders().PayOrder(
                idempotency_key=key, order_id="ord_1", payment_token="4242424242424242"
            )
        self.expect_free(remembering, key)

    def test_for_an_order_that_is_not_there(self, remembering: Checkout, key: str) -> None:
        with refused(grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND"):
            remembering.orders().CancelOrder(idempotency_key=key, order_id="ord_unknown")
        self.expect_free(remembering, key)

    def test_for_a_payment_that_is_not_there(self, remembering: Checkout, key: str) -> None:
        with refused(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND"):
            remembering.orders().MarkOrderPaid(
                idempotency_key=key,
                order_id=remembering.place().id,
                transaction_id="pay_unknown",
            )
        self.expect_free(remembering, key)

    def test_for_a_role_that_may_not(self, remembering: Checkout, key: str) -> None:
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            remembering.orders().RefundOrder(idempotency_key=key, order_id="ord_1")
        self.expect_free(remembering, key)

    @pytest.mark.requirement("FR-225")
    def test_for_an_etag_that_is_out_of_date(self, remembering: Checkout, key: str) -> None:
        order = remembering.place()
        with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH") as refusal:
            remembering.orders().CancelOrder(idempotency_key=key, order_id=order.id, etag="another")
        assert refusal.metadata == {"order_id": order.id, "current_etag": order.etag}
        self.expect_free(remembering, key)

    @pytest.mark.requirement("FR-234")
    def test_for_a_deadline_that_is_too_short(self, remembering: Checkout, key: str) -> None:
        order = remembering.place()
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT"):
            remembering.orders().PayOrder(
                idempotency_key=key, order_id=order.id, payment_token="tok_visa", timeout=0.9
            )
        assert not remembering.order(order.id).HasField("pending_operation")
        self.expect_free(remembering, key)

    @pytest.mark.requirement("FR-216")
    def test_for_an_order_that_is_busy(self, remembering: Checkout, key: str) -> None:
        order = remembering.place()
        with contextlib.suppress(grpc.RpcError):
            remembering.pay(order, "tok_timeoutBeforeCharge")
        with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS"):
            remembering.orders().CancelOrder(idempotency_key=key, order_id=order.id)
        self.expect_free(remembering, key)

    @pytest.mark.requirement("FR-215")
    def test_for_a_token_that_only_the_gateway_can_refuse(
        self, remembering: Checkout, key: str
    ) -> None:
        order = remembering.place()
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            remembering.orders().PayOrder(
                idempotency_key=key, order_id=order.id, payment_token="tok_unheardOf"
            )
        assert list(refusal.violations) == ["payment_token"]
        # An operation was recorded under it: the key stays with this request, the order is free.
        assert not remembering.order(order.id).HasField("pending_operation")
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED"):
            remembering.orders().PayOrder(
                idempotency_key=key, order_id=order.id, payment_token="tok_visa"
            )
        assert remembering.pay(order).payment_transaction_id
        assert remembering.ledger.charges(order.id) == [4000]


@pytest.mark.requirement("FR-208", "FR-213")
class TestACallThatDied:
    """It had recorded its operation: a repeat continues that one, once its lease is over."""

    @pytest.fixture
    def left_behind(self, remembering: Checkout) -> dict[str, Any]:
        """The fields of a PayOrder call whose outcome is unknown."""
        fields = {
            "idempotency_key": new_key(),
            "order_id": remembering.place().id,
            "payment_token": "tok_timeoutAfterCharge",
        }
        with refused(grpc.StatusCode.UNAVAILABLE, "PAYMENT_OUTCOME_UNKNOWN") as refusal:
            remembering.orders().PayOrder(**fields)
        assert refusal.metadata == {"order_id": fields["order_id"], "operation": "charge"}
        return fields

    def test_is_continued_at_once_if_it_said_that_it_does_not_know(
        self, remembering: Checkout, left_behind: dict[str, Any]
    ) -> None:
        self.expect_continued(remembering, left_behind)

    def test_is_left_alone_while_it_may_still_be_running(
        self, remembering: Checkout, left_behind: dict[str, Any]
    ) -> None:
        set_lease(remembering, left_behind, LEASE - timedelta(seconds=1))
        with refused(grpc.StatusCode.ABORTED, "REQUEST_IN_PROGRESS") as refusal:
            remembering.orders().PayOrder(**left_behind)
        assert refusal.metadata == {"method": "PayOrder"}
        assert refusal.retry_seconds > 0

    def test_is_continued_when_its_lease_is_over(
        self, remembering: Checkout, left_behind: dict[str, Any]
    ) -> None:
        set_lease(remembering, left_behind, timedelta(seconds=-1))
        self.expect_continued(remembering, left_behind)

    def test_is_left_alone_by_a_clock_that_is_a_little_behind(
        self, remembering: Checkout, left_behind: dict[str, Any]
    ) -> None:
        set_lease(remembering, left_behind, LEASE + timedelta(seconds=1))
        with refused(grpc.StatusCode.ABORTED, "REQUEST_IN_PROGRESS"):
            remembering.orders().PayOrder(**left_behind)

    def test_is_continued_if_its_lease_is_longer_than_leases_are(
        self, remembering: Checkout, left_behind: dict[str, Any]
    ) -> None:
        """It was written by a clock that has since been set back."""
        set_lease(remembering, left_behind, LEASE + timedelta(hours=1))
        self.expect_continued(remembering, left_behind)

    def expect_continued(self, checkout: Checkout, fields: dict[str, Any]) -> None:
        order = checkout.orders().PayOrder(**fields).order
        assert order.payment_transaction_id
        assert checkout.ledger.charges(order.id) == [4000]
        query = sa.select(payment_operations.c.status).where(
            payment_operations.c.order_id == order.id
        )
        assert checkout.order_database.read(lambda c: c.execute(query).scalars().all()) == [
            "succeeded"
        ]


def set_lease(checkout: Checkout, fields: dict[str, Any], ahead: timedelta) -> None:
    statement = (
        sa.update(idempotency_keys)
        .where(idempotency_keys.c.idempotency_key == fields["idempotency_key"])
        .values(lease_until=checkout.clock.now() + ahead)
    )
    checkout.order_database.transact(lambda connection: connection.execute(statement))

"""The same key means the same request: done once, answered alike, on every kind of storage."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import product
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from order_service.storage.tables import idempotency_keys, payment_operations
from service_kit.contract.method_contracts import method_contracts
from service_kit.idempotency.keys import LEASE
from tests.assertions import Refusal, refused
from tests.builders import money, new_key, new_order_item
from tests.checkout import Checkout
from tests.client import (
    ALICE,
    BOB,
    OPERATIONS,
    ORDER_SERVICE,
    ORDER_SERVICE_NAME,
    PAYMENT_SERVICE_NAME,
    Caller,
)
from tests.system.checkouts import BOTH, Checkouts
from tests.system.keyed_calls import KEYED_CALLS

STORAGES = [f"{database}{redis}" for database, redis in product(BOTH, ("", " and Redis"))]


@pytest.fixture(scope="module", params=STORAGES)
def remembering(request: pytest.FixtureRequest, checkouts: Checkouts) -> Iterator[Checkout]:
    """A checkout on each database, without and with Redis in front of it."""
    database, _, redis = request.param.partition(" and ")
    url = request.getfixturevalue("redis_server").url if redis else ""
    with checkouts.running(database, redis_url=url) as running:
        yield running


def history_of(checkout: Checkout) -> tuple[list[Any], list[Any]]:
    """Everything that has ever happened, in both services."""
    orders: list[Any] = []
    payments: list[Any] = []
    while page := _entries(checkout.orders(OPERATIONS), "ListOrderAuditEntries", orders):
        orders += page
    while page := _entries(checkout.payments(OPERATIONS), "ListPaymentAuditEntries", payments):
        payments += page
    return orders, payments


def _entries(client: Any, rpc: str, seen: list[Any]) -> list[Any]:
    after = seen[-1].sequence if seen else 0
    return list(getattr(client, rpc)(after_sequence=after, page_size=100).entries)


def test_every_rpc_with_a_key_is_called_below() -> None:
    contracts = method_contracts(ORDER_SERVICE_NAME) | method_contracts(PAYMENT_SERVICE_NAME)
    keyed = {m.rpartition("/")[2] for m, c in contracts.items() if c.idempotency == "by_key"}
    assert KEYED_CALLS.keys() == keyed


@pytest.mark.requirement("FR-205", "FR-206", "FR-108", "FR-109", "FR-210")
@pytest.mark.parametrize("rpc", KEYED_CALLS)
class TestARepeat:
    def test_gets_the_first_reply_byte_for_byte_and_does_nothing(
        self, remembering: Checkout, rpc: str
    ) -> None:
        call = KEYED_CALLS[rpc](remembering)
        first = call()
        before = history_of(remembering)
        again = [call(), call()]
        assert [a.body for a in again] == [first.body, first.body]
        assert not first.replayed
        assert all(a.replayed for a in again)
        assert history_of(remembering) == before

    def test_with_other_fields_is_refused_and_changes_nothing(
        self, remembering: Checkout, rpc: str
    ) -> None:
        call = KEYED_CALLS[rpc](remembering)
        first = call()
        before = history_of(remembering)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED") as refusal:
            call.with_other_fields()
        assert refusal.metadata == {"method": rpc}
        assert history_of(remembering) == before
        assert call().body == first.body


@pytest.mark.requirement("FR-206", "FR-109")
class TestAKey:
    def test_belongs_to_one_method(self, remembering: Checkout) -> None:
        order, key = remembering.place(), new_key()
        remembering.orders().PayOrder(
            idempotency_key=key, order_id=order.id, payment_token="tok_visa"
        )
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED") as refusal:
            remembering.orders().CancelOrder(idempotency_key=key, order_id=order.id)
        assert refusal.metadata == {"method": "PayOrder"}

    def test_belongs_to_one_method_of_the_payment_service(self, remembering: Checkout) -> None:
        order, key = remembering.place(), new_key()
        client = remembering.payments(ORDER_SERVICE)
        payment = client.ProcessPayment(
            idempotency_key=key, payment_ticket=order.payment_ticket, payment_token="tok_visa"
        ).payment
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED") as refusal:
            client.RefundPayment(idempotency_key=key, payment_id=payment.id, amount=money(1000))
        assert refusal.metadata == {"method": "ProcessPayment"}
        assert remembering.ledger.refunds(order.id) == []

    def test_is_another_one_for_another_caller_or_role(self, remembering: Checkout) -> None:
        key = new_key()
        callers = {
            "alice": ALICE,
            "bob": BOB,
            "a service of the same id": Caller("service", "alice"),
        }
        orders = {
            remembering.place(caller, idempotency_key=key, customer_id=customer).id
            for caller, customer in zip(callers.values(), ("alice", "bob", "alice"), strict=True)
        }
        assert len(orders) == 3

    def test_is_another_one_for_another_payer(self, remembering: Checkout) -> None:
        key, order = new_key(), remembering.place()
        fields = {"idempotency_key": key, "payment_ticket": order.payment_ticket}
        mine = remembering.payments().ProcessPayment(**fields, payment_token="tok_visa")
        theirs = remembering.payments(ORDER_SERVICE).ProcessPayment(
            **fields, payment_token="tok_amex"
        )
        assert mine.payment.id != theirs.payment.id
        assert remembering.ledger.charges(order.id) == [4000]

    def test_remembers_its_reply_whatever_has_happened_since(self, remembering: Checkout) -> None:
        fields: dict[str, Any] = {"idempotency_key": new_key(), "items": [new_order_item()]}
        first = remembering.orders().answer("CreateOrder", **fields)
        order = first.message.order
        remembering.refund(remembering.pay(order))
        assert remembering.orders().answer("CreateOrder", **fields).body == first.body
        assert remembering.order(order.id).status != order.status


def declined_charge(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    fields = {"order_id": checkout.place().id, "payment_token": "tok_chargeDeclined"}
    return checkout.orders(), "PayOrder", fields


def payment_of_another_order(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    payment = checkout.process(checkout.place())
    return (
        checkout.orders(),
        "MarkOrderPaid",
        {"order_id": checkout.place().id, "transaction_id": payment.id},
    )


def payment_that_failed(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    order = checkout.place()
    payment = checkout.process(order, "tok_chargeDeclined")
    return checkout.orders(), "MarkOrderPaid", {"order_id": order.id, "transaction_id": payment.id}


def declined_refund(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    order = checkout.paid("tok_refundFail")
    return checkout.orders(OPERATIONS), "RefundOrder", {"order_id": order.id}


def refund_of_too_much(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    fields = {"order_id": checkout.paid().id, "amount": money(4001)}
    return checkout.orders(OPERATIONS), "RefundOrder", fields


def refund_payment_of_too_much(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    fields = {"payment_id": checkout.process(checkout.place()).id, "amount": money(4001)}
    return checkout.payments(ORDER_SERVICE), "RefundPayment", fields


def refund_of_a_failed_payment(checkout: Checkout) -> tuple[Any, str, dict[str, Any]]:
    payment = checkout.process(checkout.place(), "tok_chargeDeclined")
    fields = {"payment_id": payment.id, "amount": money(1)}
    return checkout.payments(ORDER_SERVICE), "RefundPayment", fields


@pytest.mark.requirement("FR-205", "FR-117", "FR-212", "FR-222", "FR-223", "FR-228")
@pytest.mark.parametrize(
    ("reason", "prepare"),
    [
        ("PAYMENT_DECLINED", declined_charge),
        ("PAYMENT_MISMATCH", payment_of_another_order),
        ("PAYMENT_NOT_SUCCEEDED", payment_that_failed),
        ("REFUND_DECLINED", declined_refund),
        ("REFUND_EXCEEDS_PAYMENT", refund_of_too_much),
        ("REFUND_EXCEEDS_PAYMENT", refund_payment_of_too_much),
        ("PAYMENT_NOT_SUCCEEDED", refund_of_a_failed_payment),
    ],
)
def test_a_refusal_is_final_too(
    remembering: Checkout,
    reason: str,
    prepare: Callable[[Checkout], tuple[Any, str, dict[str, Any]]],
) -> None:
    """Stored with its entry in the history, and repeated byte for byte."""
    client, rpc, fields = prepare(remembering)
    fields["idempotency_key"] = new_key()

    def refusal_now() -> Refusal:
        with refused(grpc.StatusCode.FAILED_PRECONDITION, reason) as refusal:
            client.answer(rpc, **fields)
        return refusal

    first = refusal_now()
    orders, payments = history_of(remembering)
    last = (payments if rpc == "RefundPayment" else orders)[-1]
    assert (last.outcome, last.reason) == ("refused", reason)
    again = refusal_now()
    details = "grpc-status-details-bin"
    assert again.trailers[details] == first.trailers[details]
    assert (first.is_replayed, again.is_replayed) == (False, True)
    assert history_of(remembering) == (orders, payments)


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

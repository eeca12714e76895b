"""Once per key: what a repeat gets, and what leaves no trace."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from order_service.domain.errors import (
    EtagMismatch,
    OrderNotFound,
    PaymentInProgress,
    PaymentOutcomeUnknown,
)
from order_service.domain.order import Order
from order_service.domain.state_machine import OrderStatus
from service_kit.database import Database
from service_kit.errors import (
    DeadlineTooShort,
    IdempotencyKeyReused,
    InvalidRequest,
    RequestInProgress,
)
from service_kit.idempotency.memory import NoReplyMemory
from service_kit.idempotency.record import KeyedRequest, Reply
from tests.builders import new_key, new_order_items
from tests.integration.order_service.desk import Desk, ok, open_desk, refusal
from tests.integration.order_service.scripted_payments import Gateway
from tests.unit.order_service.builders import ALICE, OLGA, SHOP


def _fulfilled(desk: Desk) -> Order:
    order = desk.place_paid()
    ok(desk.fulfill(order))
    return desk.order(order.id)


def _cancelled(desk: Desk) -> Order:
    order = desk.place()
    ok(desk.cancel(order))
    return desk.order(order.id)


Call = Callable[[Desk, Order, str], Reply]

# An order that the call succeeds on, the call, and one that it is refused on.
CHANGES: dict[str, tuple[Callable[[Desk], Order], Call, Callable[[Desk], Order]]] = {
    "PayOrder": (Desk.place, lambda d, o, key: d.pay(o, key=key), Desk.place_paid),
    "CancelOrder": (Desk.place, lambda d, o, key: d.cancel(o, key=key), Desk.place_paid),
    "FulfillOrder": (Desk.place_paid, lambda d, o, key: d.fulfill(o, key=key), Desk.place),
    "RefundOrder": (Desk.place_paid, lambda d, o, key: d.refund(o, key=key), Desk.place),
    "ArchiveOrder": (
        _fulfilled,
        lambda d, o, key: d.archive(o, key=key),
        Desk.place,
    ),
    "MarkOrderPaid": (
        Desk.place_paid,
        lambda d, o, key: d.mark_paid(o, o.payment_id or "pay_1", key=key),
        _cancelled,
    ),
}
every_change = pytest.mark.parametrize(
    ("before", "call", "otherwise"), CHANGES.values(), ids=CHANGES
)


@pytest.mark.requirement("FR-205")
class TestRepeat:
    @every_change
    def test_of_a_success_gets_the_same_bytes_and_changes_nothing(
        self, desk: Desk, before: Callable[[Desk], Order], call: Call, otherwise: Any
    ) -> None:
        order, key = before(desk), new_key()
        first = call(desk, order, key)
        ok(first)
        now, events, calls = desk.order(order.id), desk.events(order), len(desk.payments.calls)
        again = call(desk, order, key)

        assert (again.ok, again.body) == (first.ok, first.body)
        assert (first.replayed_from, again.replayed_from) == ("", "database")
        assert desk.order(order.id) == now
        assert (desk.events(order), len(desk.payments.calls)) == (events, calls)

    @every_change
    def test_of_a_refusal_gets_the_same_bytes_and_one_audit_entry(
        self, desk: Desk, before: Any, call: Call, otherwise: Callable[[Desk], Order]
    ) -> None:
        order, key = otherwise(desk), new_key()
        events = desk.events(order)
        first = call(desk, order, key)
        refusal(first, "INVALID_TRANSITION")
        again = call(desk, order, key)

        assert (again.ok, again.body, again.replayed_from) == (False, first.body, "database")
        assert desk.events(order) == [*events, "invalid_transition_attempted"]
        assert desk.order(order.id) == order

    def test_of_a_new_order_places_nothing(self, desk: Desk) -> None:
        fields: dict[str, Any] = {"idempotency_key": new_key(), "items": new_order_items()}
        first = desk.call("CreateOrder", **fields)
        again = desk.call("CreateOrder", **fields)

        assert (again.body, again.replayed_from) == (first.body, "database")
        order = desk.order(ok(first).id)
        assert desk.events(order) == ["order_created"]
        assert desk.codec.order(order) == ok(first)

    def test_gets_the_first_reply_however_the_order_stands_now(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        first = desk.pay(order, key=key)
        ok(desk.refund(order))

        assert desk.pay(order, key=key).body == first.body
        assert desk.status(order) is OrderStatus.REFUNDED

    def test_is_told_from_a_new_request_after_the_retention(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        ok(desk.pay(order, key=key))
        desk.clock.move(timedelta(hours=23))
        assert desk.pay(order, key=key).replayed_from == "database"

        desk.clock.move(timedelta(hours=2))
        refusal(desk.pay(order, key=key), "INVALID_TRANSITION")
        assert desk.payments.charges(order.id) == 1


@pytest.mark.requirement("FR-206")
class TestKeyReused:
    def test_with_other_fields_or_another_method_is_refused(self, desk: Desk) -> None:
        order, other, key = desk.place(), desk.place(), new_key()
        ok(desk.cancel(order, key=key))

        calls: list[Callable[[], Reply]] = [
            lambda: desk.cancel(other, key=key),
            lambda: desk.cancel(order, key=key, etag="1"),
            lambda: desk.pay(order, key=key),
            lambda: desk.call("CreateOrder", idempotency_key=key, items=new_order_items()),
        ]
        for call in calls:
            with pytest.raises(IdempotencyKeyReused) as refused:
                call()
            assert refused.value.method == "CancelOrder"
        assert desk.order(other.id) == other
        assert desk.events(order) == ["order_created", "order_cancelled"]

    def test_by_another_caller_or_role_is_another_key(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        refusal(desk.fulfill(order, key=key, by=SHOP), "INVALID_TRANSITION")

        for by in (replace(SHOP, id="other-backend"), OLGA, replace(OLGA, id="shop-backend")):
            reply = desk.fulfill(order, key=key, by=by)
            refusal(reply, "INVALID_TRANSITION")
            assert reply.replayed_from == ""
        assert len(desk.history(order)) == 5


@pytest.mark.requirement("FR-209")
class TestNotStored:
    """A transient answer leaves no key behind and is in no history."""

    def test_is_an_order_that_is_not_found(self, desk: Desk) -> None:
        order, key = replace(desk.place(), id="ord_none"), new_key()

        for call in (desk.pay, desk.cancel, desk.fulfill, desk.refund, desk.archive):
            with pytest.raises(OrderNotFound):
                call(order, key=key)
        assert desk.key(key) is None

    def test_is_a_stale_etag(self, desk: Desk) -> None:
        order, key = desk.place_paid(), new_key()
        events = desk.events(order)

        for call in (desk.pay, desk.cancel, desk.fulfill, desk.refund, desk.archive):
            with pytest.raises(EtagMismatch):
                call(order, key=key, etag="1")
        with pytest.raises(EtagMismatch):
            desk.mark_paid(order, order.payment_id, key=key, etag="1")
        assert desk.key(key) is None
        assert desk.events(order) == events

    def test_is_what_is_under_way(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.gateway_then(Gateway.IS_SILENT)
        with pytest.raises(PaymentOutcomeUnknown):
            desk.pay(order)

        for call in (desk.pay, desk.cancel):
            with pytest.raises(PaymentInProgress):
                call(order, key=key)
        assert desk.key(key) is None
        assert desk.events(order) == ["order_created"]

    @pytest.mark.requirement("FR-234")
    def test_is_a_deadline_that_is_too_short(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()

        calls: list[Callable[[], Reply]] = [
            lambda: desk.pay(order, key=key, seconds=0.9),
            lambda: desk.cancel(order, key=key, seconds=0.9),
            lambda: desk.refund(order, key=key, seconds=0.9),
            lambda: desk.mark_paid(order, "pay_1", key=key, seconds=0.9),
        ]
        for call in calls:
            with pytest.raises(DeadlineTooShort) as refused:
                call()
            assert refused.value.minimum_seconds == 1.0
        assert (desk.key(key), desk.payments.calls) == (None, [])
        assert desk.operations(order) == []

    def test_leaves_the_key_to_the_corrected_request(self, desk: Desk) -> None:
        order, key = desk.place_paid(), new_key()
        with pytest.raises(InvalidRequest):
            desk.refund(order, 1, key=key, currency="USD")
        with pytest.raises(EtagMismatch):
            desk.refund(order, 1, key=key, etag="1")

        ok(desk.refund(order, 1, key=key, etag="2"))


@pytest.mark.requirement("FR-225")
class TestEtag:
    def test_is_not_asked_of_a_repeat_that_has_its_reply(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        first = desk.pay(order, key=key, etag="1")

        assert ok(first).etag == "2"
        assert desk.pay(order, key=key, etag="1").body == first.body

    def test_is_asked_again_once_the_operation_was_voided(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        direct = desk.payments.paid_directly(order, "pending")
        with pytest.raises(PaymentInProgress):
            desk.pay(order, key=key, etag="1")
        desk.payments.ends(direct, "succeeded")
        ok(desk.mark_paid(order, direct))

        with pytest.raises(EtagMismatch):
            desk.pay(order, key=key, etag="1")

    @pytest.mark.parametrize("call", [Desk.pay, Desk.cancel])
    def test_lets_the_change_of_what_was_seen_happen(
        self, desk: Desk, call: Callable[..., Reply]
    ) -> None:
        order = desk.place()

        assert ok(call(desk, order, etag=order.etag)).etag != order.etag


@pytest.mark.requirement("FR-207")
class TestSameKeyAtOnce:
    def test_is_executed_once(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()

        def pay(_: int) -> Reply | None:
            with suppress(RequestInProgress):
                return desk.pay(order, key=key)
            return None

        with ThreadPoolExecutor(8) as callers:
            replies = [reply for reply in callers.map(pay, range(8)) if reply]
        replies.append(desk.pay(order, key=key))

        assert len({reply.body for reply in replies}) == 1
        assert (desk.payments.charges(order.id), len(desk.operations(order))) == (1, 1)
        assert desk.events(order) == ["order_created", "order_paid"]

    def test_places_one_order(self, desk: Desk) -> None:
        fields: dict[str, Any] = {"idempotency_key": new_key(), "items": new_order_items()}

        with ThreadPoolExecutor(8) as callers:
            replies = list(callers.map(lambda _: desk.call("CreateOrder", **fields), range(8)))

        assert len({reply.body for reply in replies}) == 1
        assert [reply.replayed_from for reply in replies].count("") == 1


class Remembered(NoReplyMemory):
    """A short memory in this process."""

    def __init__(self) -> None:
        self.replies: dict[KeyedRequest, Reply] = {}

    def recall(self, request: KeyedRequest) -> Reply | None:
        found = self.replies.get(request)
        return replace(found, replayed_from="redis") if found else None

    def remember(self, request: KeyedRequest, reply: Reply) -> None:
        self.replies[request] = reply


@pytest.mark.requirement("FR-210")
class TestShortMemory:
    @pytest.fixture
    def memory(self) -> Remembered:
        return Remembered()

    @pytest.fixture
    def quick(self, database: Database, memory: Remembered) -> Desk:
        return open_desk(database, memory=memory)

    def test_answers_repeats_of_final_replies_of_either_kind(self, quick: Desk) -> None:
        order, key, other = quick.place(), new_key(), new_key()
        paid, refused = quick.pay(order, key=key), quick.cancel(order, key=other)

        assert quick.pay(order, key=key) == replace(paid, replayed_from="redis")
        assert quick.cancel(order, key=other) == replace(refused, replayed_from="redis")

    def test_learns_a_reply_that_only_the_database_had(
        self, quick: Desk, memory: Remembered
    ) -> None:
        order, key = quick.place(), new_key()
        first = quick.pay(order, key=key)
        memory.replies.clear()

        assert quick.pay(order, key=key) == replace(first, replayed_from="database")
        assert quick.pay(order, key=key) == replace(first, replayed_from="redis")

    def test_is_told_nothing_that_is_not_final(self, quick: Desk, memory: Remembered) -> None:
        order = quick.place()
        memory.replies.clear()
        quick.payments.gateway_then(Gateway.IS_SILENT)
        for error in (PaymentOutcomeUnknown, PaymentInProgress):
            with pytest.raises(error):
                quick.pay(order)

        assert memory.replies == {}

    def test_says_nothing_to_other_requests_under_the_key(self, quick: Desk) -> None:
        order, key = quick.place(), new_key()
        quick.pay(order, key=key, by=ALICE)

        with pytest.raises(IdempotencyKeyReused):
            quick.pay(order, key=key, payment_token="tok_other")

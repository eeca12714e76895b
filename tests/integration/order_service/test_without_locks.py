"""On PostgreSQL a call that nobody disturbs never needs a lock, and one that is disturbed does."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from checkout.order.v1 import order_pb2
from order_service.domain.order import Order
from order_service.domain.state_machine import OrderStatus
from order_service.storage.tables import orders
from service_kit.database import Database
from tests.builders import new_key
from tests.checkout import migrate_orders
from tests.integration.conftest import Watched
from tests.integration.order_service.desk import Desk, ok, refusal
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[Database]:
    """A database on PostgreSQL."""
    url = postgres_server.create_database(postgres_server.template("orders", migrate_orders))
    database = Database(url)
    yield database
    database.close()
    postgres_server.drop_database(url)


class TestUndisturbed:
    def test_an_order_goes_all_the_way(self, desk: Desk, watched: Watched) -> None:
        order = desk.place()
        ok(desk.pay(order))
        ok(desk.fulfill(order))
        ok(desk.archive(order))
        assert watched.locked == []
        assert desk.events(order) == [
            "order_created",
            "order_paid",
            "order_fulfilled",
            "order_archived",
        ]

    def test_it_is_cancelled_or_given_back(self, desk: Desk, watched: Watched) -> None:
        cancelled, refunded = desk.place(), desk.place_paid()
        ok(desk.cancel(cancelled))
        ok(desk.refund(refunded))
        assert watched.locked == []
        assert desk.status(cancelled) is OrderStatus.CANCELLED
        assert desk.status(refunded) is OrderStatus.REFUNDED

    def test_a_refusal_is_recorded(self, desk: Desk, watched: Watched) -> None:
        order, key = desk.place(), new_key()
        refusal(desk.fulfill(order, key=key), "INVALID_TRANSITION")
        assert watched.locked == []
        refusal(desk.fulfill(order, key=key), "INVALID_TRANSITION")
        assert desk.events(order) == ["order_created", "invalid_transition_attempted"]

    def test_it_takes_few_statements(self, desk: Desk, watched: Watched) -> None:
        """PayOrder reads the order, not whether it has been paid directly, which is rare."""
        order = desk.place()
        assert watched.statements[:1] == ["WITH"]
        watched.statements.clear()
        ok(desk.pay(order))
        assert watched.statements == ["SELECT", "WITH", "WITH"]
        watched.statements.clear()
        ok(desk.fulfill(order))
        assert watched.statements == ["SELECT", "WITH"]


class TestDisturbed:
    """Something happens between what was read and what is written."""

    def test_by_another_payment_it_charges_once(self, desk: Desk, watched: Watched) -> None:
        order = desk.place()
        watched.once_in_between(lambda: ok(desk.pay(order)))
        refusal(desk.pay(order), "INVALID_TRANSITION")
        assert watched.locked
        assert desk.payments.charges(order.id) == 1

    def test_by_the_same_call_it_charges_once(self, desk: Desk, watched: Watched) -> None:
        order, key = desk.place(), new_key()
        watched.once_in_between(lambda: ok(desk.pay(order, key=key)))
        assert desk.pay(order, key=key).replayed_from == "database"
        assert desk.payments.charges(order.id) == 1

    def test_by_a_cancellation_it_charges_nothing(self, desk: Desk, watched: Watched) -> None:
        order = desk.place()
        watched.once_in_between(lambda: ok(desk.cancel(order)))
        refusal(desk.pay(order), "INVALID_TRANSITION")
        assert desk.payments.charges(order.id) == 0

    def test_by_the_same_order_it_is_placed_once(self, desk: Desk, watched: Watched) -> None:
        key, placed = new_key(), list[Order]()
        watched.once_in_between(lambda: placed.append(desk.place(idempotency_key=key)))
        assert desk.place(idempotency_key=key) == placed[0]

    def test_its_outcome_is_written_on_the_order_as_it_is(
        self, desk: Desk, watched: Watched
    ) -> None:
        """What this process remembers of an order is compared before anything is written."""
        order = desk.place()
        touch = sa.update(orders).where(orders.c.id == order.id)
        charge = desk.payments.charge

        def charge_and_touch(*arguments: Any, **named: Any) -> Any:
            answer = charge(*arguments, **named)
            desk.database.transact(
                lambda c: c.execute(touch.values(revision=orders.c.revision + 1))
            )
            return answer

        desk.payments.charge = charge_and_touch  # type: ignore[method-assign]
        ok(desk.pay(order))
        assert len(watched.locked) == 2  # this, and the outcome
        assert desk.status(order) is OrderStatus.PAID

    def test_what_it_remembers_is_told_to_nobody(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor is what it reads, if nothing is written that would compare it."""
        order, refund = desk.place_paid(), desk.payments.refund

        def refund_and_lock_from_now_on(*arguments: Any, **named: Any) -> Any:
            monkeypatch.setattr(desk.store, "change", desk.store.transact)
            return refund(*arguments, **named)

        desk.payments.refund = refund_and_lock_from_now_on  # type: ignore[method-assign]
        ok(desk.refund(order, 100))
        ok(desk.fulfill(order))
        monkeypatch.undo()

        told = ok(desk.mark_paid(order, order.payment_id))
        assert told.status == order_pb2.ORDER_STATUS_FULFILLED

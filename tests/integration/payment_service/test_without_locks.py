"""On PostgreSQL a payment that nobody disturbs needs no lock, and one that is disturbed does."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from checkout.payment.v1 import payment_pb2
from payment_service.gateways.simulated import SimulatedGateway
from payment_service.storage.tables import payment_orders
from service_kit.ids import new_id
from tests.builders import new_key
from tests.checkout import migrate_payments
from tests.integration.conftest import Watched
from tests.integration.payment_service.desk import Desk
from tests.servers.postgres import PostgresServer

SUCCEEDED = payment_pb2.PAYMENT_STATUS_SUCCEEDED
FAILED = payment_pb2.PAYMENT_STATUS_FAILED
VOIDED = payment_pb2.PAYMENT_STATUS_VOIDED


@pytest.fixture(scope="module")
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database on PostgreSQL."""
    url = postgres_server.create_database(postgres_server.template("payments", migrate_payments))
    yield url
    postgres_server.drop_database(url)


class TestUndisturbed:
    def test_it_takes_few_statements_and_no_lock(self, desk: Desk, watched: Watched) -> None:
        """The order's row is read; the key, which is new, is not looked for before it is taken."""
        assert desk.process().status == SUCCEEDED
        assert watched.locked == []
        assert watched.statements == ["SELECT", "WITH", "WITH"]

    def test_it_is_tried_again_with_another_key(self, desk: Desk, watched: Watched) -> None:
        order_id = new_id("ord_")
        assert desk.process("tok_chargeDeclined", order_id=order_id).status == FAILED
        assert desk.process(order_id=order_id).status == SUCCEEDED
        assert desk.process(order_id=order_id).status == VOIDED
        assert watched.locked == []
        assert len(desk.charges(order_id)) == 1


class TestAPendingPayment:
    def test_is_asked_about_by_one_call_alone(self, desk: Desk, watched: Watched) -> None:
        """Two that see that its lease is over must not both take it: that takes a lock."""
        key, order_id = new_key(), new_id("ord_")
        pending = desk.process("tok_timeoutBeforeCharge", key=key, order_id=order_id)
        assert pending.status == payment_pb2.PAYMENT_STATUS_PENDING
        watched.locked.clear()
        again = desk.process("tok_timeoutBeforeCharge", key=key, order_id=order_id)
        assert again.status == SUCCEEDED
        assert len(watched.locked) == 1


class TestAFinalPayment:
    def test_is_told_again_and_nothing_written(self, desk: Desk) -> None:
        key, order_id = new_key(), new_id("ord_")
        desk.process(key=key, order_id=order_id)
        row: sa.Select[tuple[str]] = sa.select(sa.literal_column("xmin::text"))
        query = row.select_from(payment_orders).where(payment_orders.c.order_id == order_id)

        def version(connection: Connection) -> str:
            return str(connection.execute(query).scalar_one())

        before = desk.database.read(version)
        assert desk.process(key=key, order_id=order_id).status == SUCCEEDED
        assert desk.database.read(version) == before


class TestDisturbed:
    """Something happens between what was read and what is written."""

    @pytest.fixture(params=["new", "known"])
    def order_id(self, request: pytest.FixtureRequest, desk: Desk) -> str:
        """An order of which the service has heard, or not."""
        order_id = new_id("ord_")
        if request.param == "known":
            desk.process("tok_chargeDeclined", order_id=order_id)
        return order_id

    def test_by_a_seal_nothing_is_charged(
        self, desk: Desk, watched: Watched, order_id: str
    ) -> None:
        watched.once_in_between(lambda: desk.seal(order_id))
        assert desk.process(order_id=order_id).status == VOIDED
        assert watched.locked
        assert desk.charges(order_id) == []

    def test_by_another_payment_one_is_charged(
        self, desk: Desk, watched: Watched, order_id: str
    ) -> None:
        watched.once_in_between(lambda: desk.process(order_id=order_id))
        assert desk.process(order_id=order_id).status == VOIDED
        assert len(desk.charges(order_id)) == 1

    def test_by_the_same_call_one_is_charged(
        self, desk: Desk, watched: Watched, order_id: str
    ) -> None:
        key = new_key()
        watched.once_in_between(lambda: desk.process(order_id=order_id, key=key))
        assert desk.process(order_id=order_id, key=key).status == SUCCEEDED
        assert len(desk.charges(order_id)) == 1

    def test_its_outcome_is_written_into_the_history_as_it_is(
        self, desk: Desk, watched: Watched, order_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What this process remembers of a history is compared before anything is written."""
        charge = SimulatedGateway.charge

        def charge_and_seal(*arguments: Any, **named: Any) -> Any:
            answer = charge(*arguments, **named)
            desk.seal(order_id)
            return answer

        monkeypatch.setattr(SimulatedGateway, "charge", charge_and_seal)
        assert desk.process(order_id=order_id).status == SUCCEEDED
        assert desk.events(order_id)[-2:] == ["order_sealed", "payment_succeeded"]
        assert len(watched.locked) == 2  # the seal, and the outcome

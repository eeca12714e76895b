"""What is written comes back, and nothing is written over what somebody else has changed."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from order_service.application.ports import Work
from order_service.domain.audit import EventType
from order_service.domain.money import Money
from order_service.domain.order import Order, OrderItem
from order_service.domain.payment_operation import (
    OperationKind,
    OperationStatus,
)
from order_service.storage.audit import StoredHistory
from order_service.storage.orders import StoredOrders
from order_service.storage.store import SqlStore
from order_service.storage.tables import orders
from service_kit.database import Database
from service_kit.errors import ConcurrentUpdate
from service_kit.ids import new_id
from service_kit.recent import Recent
from tests.builders import CHAIN_KEY
from tests.unit.order_service.builders import (
    ALICE,
    AT,
    LATER,
    SHOP,
    eur,
    new_operation,
    new_order,
)


@pytest.fixture
def store(database: Database) -> SqlStore:
    return SqlStore(database, chain_key=CHAIN_KEY)


def placed(store: SqlStore, order: Order | None = None) -> Order:
    """Store a new order."""
    order = order or new_order()
    entry = order.entry(EventType.ORDER_CREATED, by=ALICE, at=AT)
    store.transact(lambda work: work.orders.add(order, entry))
    return order


def read(store: SqlStore, order_id: str) -> Order | None:
    return store.read(lambda work: work.orders.get(order_id))


def saved(store: SqlStore, *steps: Order) -> Order:
    """Lock an order and write what it became, step by step, in one transaction."""

    def work(work: Work) -> None:
        work.orders.lock(steps[0].id)
        for step in steps:
            work.orders.save(step)

    store.transact(work)
    return steps[-1]


class TestOrders:
    def test_come_back_as_they_were_placed(self, store: SqlStore) -> None:
        items = (
            OrderItem("s" * 256, "Tasse \N{HOT BEVERAGE} 'quoted' \\ %s", 10_000, eur(0)),
            OrderItem("TEE-M", "n" * 256, 1, eur(10**10)),
        )
        order, _ = Order.place(
            order_id=new_id("ord_"), customer_id="c" * 256, items=items, by=ALICE, at=AT
        )
        placed(store, order)

        assert read(store, order.id) == order

    def test_keep_up_to_100_lines_in_their_order(self, store: SqlStore) -> None:
        items = tuple(OrderItem(f"SKU-{n}", "Mug", n, Money("JPY", n)) for n in range(1, 101))
        order, _ = Order.place(
            order_id=new_id("ord_"), customer_id="alice", items=items, by=ALICE, at=AT
        )
        placed(store, order)

        assert read(store, order.id) == order

    def test_come_back_as_they_were_changed(self, store: SqlStore) -> None:
        order = placed(store)
        paid, _ = order.pay(payment_id=new_id("pay_"), by=ALICE, at=LATER)
        assert saved(store, paid) == read(store, order.id)
        partly, _ = paid.refund(eur(1500), by=ALICE, at=LATER)
        assert saved(store, partly) == read(store, order.id)

    def test_that_do_not_exist_are_none(self, store: SqlStore) -> None:
        assert read(store, "ord_none") is None
        assert store.transact(lambda work: work.orders.lock("ord_none")) is None

    def test_are_saved_only_after_they_were_locked(self, store: SqlStore) -> None:
        order = placed(store)

        with pytest.raises(KeyError):
            store.transact(lambda work: work.orders.save(order))

    def test_are_saved_step_after_step_in_one_transaction(self, store: SqlStore) -> None:
        order = placed(store)
        paid, _ = order.pay(payment_id=new_id("pay_"), by=ALICE, at=LATER)
        fulfilled, _ = paid.fulfill(by=ALICE, at=LATER)

        assert saved(store, paid, fulfilled) == read(store, order.id)

    def test_that_changed_since_they_were_locked_are_a_lost_race(
        self, database: Database, store: SqlStore
    ) -> None:
        order = placed(store)
        cancelled, _ = order.cancel(by=ALICE, at=LATER)
        runs = []

        def work(connection: Connection) -> None:
            runs.append(connection)
            stored = StoredOrders(connection, StoredHistory(connection, CHAIN_KEY), Recent())
            stored.lock(order.id)
            change = sa.update(orders).where(orders.c.id == order.id)
            connection.execute(change.values(revision=orders.c.revision + 1))
            stored.save(cancelled)

        with pytest.raises(ConcurrentUpdate):
            database.transact(work)
        assert len(runs) == 5
        assert read(store, order.id) == order


class TestOperations:
    @pytest.mark.parametrize("kind", OperationKind)
    def test_come_back_as_they_began_with_their_order(
        self, store: SqlStore, kind: OperationKind
    ) -> None:
        order = placed(store)
        operation = new_operation(kind, order=order, actor=SHOP, fingerprint=bytes(range(32)))
        if kind is OperationKind.REFUND:
            operation = replace(operation, payment_id="pay_1", amount=eur(1500))
        store.transact(lambda work: work.operations.add(operation))

        assert store.read(lambda work: work.operations.get(operation.id)) == operation
        assert read(store, order.id) == replace(order, pending=operation)

    @pytest.mark.parametrize(
        "outcome", [OperationStatus.SUCCEEDED, OperationStatus.FAILED, OperationStatus.VOIDED]
    )
    def test_end_and_are_in_flight_no_more(self, store: SqlStore, outcome: OperationStatus) -> None:
        order = placed(store)
        operation = new_operation(order=order)
        store.transact(lambda work: work.operations.add(operation))
        ended = operation.ended(outcome)
        store.transact(lambda work: work.operations.end(ended, at=LATER))

        assert store.read(lambda work: work.operations.get(operation.id)) == ended
        assert read(store, order.id) == order

    def test_end_once(self, store: SqlStore) -> None:
        order = placed(store)
        operation = new_operation(order=order)
        store.transact(lambda work: work.operations.add(operation))
        voided = operation.ended(OperationStatus.VOIDED)
        succeeded = operation.ended(OperationStatus.SUCCEEDED)
        store.transact(lambda work: work.operations.end(voided, at=LATER))

        with pytest.raises(ConcurrentUpdate):
            store.transact(lambda work: work.operations.end(succeeded, at=LATER))
        assert store.read(lambda work: work.operations.get(operation.id)) == voided


class TestAuditEntries:
    @pytest.mark.requirement("FR-228")
    def test_come_back_as_they_were_written(self, store: SqlStore) -> None:
        order = placed(store)
        paid, entry = order.pay(payment_id=new_id("pay_"), by=SHOP, at=LATER)

        def work(work: Work) -> None:
            work.orders.lock(order.id)
            work.orders.save(paid, entry)

        store.transact(work)

        _, stored = store.audit_entries(after=0, order_id=order.id, limit=10)
        assert stored.entry == entry
        assert stored.sequence > 0

    @pytest.mark.requirement("FR-229")
    def test_of_a_transaction_that_failed_do_not_exist(self, store: SqlStore) -> None:
        order = placed(store)
        cancelled, entry = order.cancel(by=ALICE, at=LATER)

        def fail(work: Work) -> None:
            work.orders.lock(order.id)
            work.orders.save(cancelled, entry)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.transact(fail)
        [stored] = store.audit_entries(after=0, order_id=order.id, limit=10)
        assert stored.entry.event_type is EventType.ORDER_CREATED


class TestInstance:
    def test_has_an_id_of_its_own_for_good(self, store: SqlStore) -> None:
        assert store.instance_id().startswith("db_")
        assert store.instance_id() == store.instance_id()

"""A change is not committed yet when another comes that must not overlook it.

On PostgreSQL. On SQLite there is one writer at a time: it must be one from the beginning on.
"""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import Any, Final

import pytest
import sqlalchemy as sa

from payment_service.storage.orders import StoredOrders
from tests.builders import money
from tests.client import ALICE, OPERATIONS, ORDER_SERVICE, SHOP
from tests.faults.background import READ, run_dry
from tests.faults.clients import TOTAL, Client
from tests.faults.drafts import tried_without_locks
from tests.faults.figures import Figures
from tests.faults.history import Answered, Call, Refused, Request, ask
from tests.faults.points import Pause, points_around_the_services
from tests.faults.scenarios import direct_payment
from tests.faults.shop import Shop
from tests.system.checkouts import POSTGRESQL, SQLITE, Checkouts

_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.01
# Between two rounds of the workers.
_A_WHILE_SECONDS: Final = 0.2

# Whoever waits in either database for another transaction to end.
_WAITING: Final = sa.text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND datname IN (:orders, :payments)"
)


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["with locks", "without locks"])
def shop(
    request: pytest.FixtureRequest, checkouts: Checkouts, errors_only: None, figures: Figures
) -> Iterator[Shop]:
    """A shop for all of them, whose changes lock what they read, or compare it in the end."""
    with tried_without_locks(request.param), opened(checkouts, POSTGRESQL, figures) as shop:
        yield shop


@contextmanager
def opened(checkouts: Checkouts, database: str, figures: Figures) -> Iterator[Shop]:
    """Open a shop over a database."""
    with (
        points_around_the_services() as points,
        checkouts.running(database, payment_gateway_slow_seconds=0.01) as checkout,
    ):
        yield Shop(checkout, database, points, figures)


def paid(client: Client) -> Any:
    """An order that is paid."""
    order = client.place()
    client.insist(pay_through_the_order(order))
    return order


def declined(client: Client) -> Any:
    """An order that the payment service knows: a first payment was declined."""
    order = client.place()
    client.insist(direct_payment(order, "tok_chargeDeclined"))
    return order


def pay(order: Any) -> Request:
    return direct_payment(order, "tok_visa")


def cancel(order: Any) -> Request:
    return ask("CancelOrder", ALICE, order_id=order.id)


def pay_through_the_order(order: Any) -> Request:
    return ask("PayOrder", ALICE, order_id=order.id, payment_token="tok_visa")


def fulfill(order: Any) -> Request:
    return ask("FulfillOrder", SHOP, order_id=order.id)


def archive(order: Any) -> Request:
    return ask("ArchiveOrder", SHOP, order_id=order.id)


def refund(order: Any) -> Request:
    return ask("RefundOrder", OPERATIONS, order_id=order.id)


@pytest.mark.parametrize("prepare", [Client.place, declined], ids=["new", "known"])
@pytest.mark.parametrize(
    "order_of_things",
    [
        (pay, "process.in_intent", cancel),
        (pay, "process.in_intent", pay),
        (pay, "process.in_intent", pay_through_the_order),
        (cancel, "seal.in_seal", pay),
        (pay_through_the_order, "process.in_intent", pay),
        (pay_through_the_order, "pay.in_intent", cancel),
        (cancel, "cancel.in_intent", pay_through_the_order),
    ],
    ids=lambda part: f"{part[0].__name__}-{part[1]}-{part[2].__name__}",
)
def test_an_order_is_paid_once_or_cancelled(
    shop: Shop, pool: ThreadPoolExecutor, prepare: Any, order_of_things: tuple[Any, str, Any]
) -> None:
    first, point, second = order_of_things
    order = prepare(shop.client)
    overtake(shop, pool, first(order), point, second(order))
    shop.check()


@pytest.mark.parametrize(
    "order_of_things",
    [
        (fulfill, "fulfill.in_change", fulfill),
        (fulfill, "fulfill.in_change", refund),
        (fulfill, "fulfill.in_change", archive),
        (refund, "refund.in_intent", fulfill),
        (refund, "refund.in_intent", refund),
        (refund, "give_back.in_intent", refund),
        (archive, "archive.in_change", fulfill),
    ],
    ids=lambda part: f"{part[0].__name__}-{part[1]}-{part[2].__name__}",
)
def test_a_paid_order_goes_one_way(
    shop: Shop, pool: ThreadPoolExecutor, order_of_things: tuple[Any, str, Any]
) -> None:
    first, point, second = order_of_things
    order = paid(shop.client)
    overtake(shop, pool, first(order), point, second(order))
    shop.check()


def test_what_is_being_given_back_is_not_given_back_again(
    shop: Shop, pool: ThreadPoolExecutor
) -> None:
    order = paid(shop.client)
    payment_id = shop.checkout.order(order.id).payment_transaction_id
    again = ask(
        "RefundPayment", ORDER_SERVICE, about=order.id, payment_id=payment_id, amount=money(TOTAL)
    )
    first, second = overtake(shop, pool, refund(order), "give_back.in_intent", again)
    assert isinstance(first.outcome, Answered)
    # Not by the gateway, which need not add up.
    assert isinstance(second.outcome, Refused)
    assert second.outcome.reason == "REFUND_EXCEEDS_PAYMENT"
    shop.check()


def test_the_reader_of_payments_waits_for_one_that_is_being_written_down(
    shop: Shop, pool: ThreadPoolExecutor
) -> None:
    shop.settle()
    first, second = (pay(shop.client.place()) for _ in range(2))
    with held(shop, pool, first, "process.in_outcome"):
        shop.client.insist(second)
        run_dry(shop.checkout, READ)
    shop.check()


def test_on_sqlite_nobody_writes_between_a_look_and_what_follows(
    checkouts: Checkouts,
    errors_only: None,
    figures: Figures,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened(checkouts, SQLITE, figures) as shop:
        order = declined(shop.client)
        pause, look = Pause(), StoredOrders.lock

        def look_and_pause(orders: StoredOrders, order_id: str) -> bool:
            sealed = look(orders, order_id)
            pause()
            return sealed

        monkeypatch.setattr(StoredOrders, "lock", look_and_pause)
        paying = pool.submit(shop.client.insist, pay(order))
        assert pause.is_reached(_SECONDS)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            write_as_somebody_else(shop.checkout.payment_settings.effective_database_url())
        pause.end()
        paying.result()
        shop.check()


def write_as_somebody_else(url: str) -> None:
    """Begin to write into an SQLite database as another program would, without any patience."""
    file = sa.make_url(url).database
    assert file is not None
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")


@contextmanager
def held(shop: Shop, pool: ThreadPoolExecutor, request: Request, point: str) -> Iterator[None]:
    """Hold a request in the middle of its transaction, for the block."""
    pause = Pause()
    shop.points.at(point, request.trace_id, pause)
    sending = pool.submit(shop.client.insist, request)
    assert pause.is_reached(_SECONDS), f"never reached {point}"
    try:
        yield
    finally:
        pause.end()
    sending.result()


def overtake(
    shop: Shop, pool: ThreadPoolExecutor, first: Request, point: str, second: Request
) -> list[Call]:
    """Hold the first in the middle of its transaction until the second is answered or waits."""
    pause = Pause()
    shop.points.at(point, first.trace_id, pause)
    sending: list[Future[Call]] = [pool.submit(shop.client.insist, first)]
    assert pause.is_reached(_SECONDS), f"never reached {point}"
    sending.append(pool.submit(shop.client.insist, second))
    give_up_at = time.monotonic() + _SECONDS
    while not (is_answered(shop, second) or somebody_waits(shop)):
        assert time.monotonic() < give_up_at, "neither answered nor kept waiting"
        time.sleep(_POLL_SECONDS)
    pause.end()
    # One of them may have to wait for the worker that the other needs.
    while any(not future.done() for future in sending):
        wait(sending, _A_WHILE_SECONDS)
        shop.settle()
    shop.count("transactions overtaken")
    return [future.result() for future in sending]


def is_answered(shop: Shop, request: Request) -> bool:
    """Say whether it has come back, be it to be sent again."""
    return any(call.request is request for call in shop.history.calls)


def somebody_waits(shop: Shop) -> bool:
    """Say whether a transaction waits for another one."""
    checkout = shop.checkout
    names = {
        "orders": sa.make_url(checkout.order_settings.effective_database_url()).database,
        "payments": sa.make_url(checkout.payment_settings.effective_database_url()).database,
    }
    count = checkout.order_database.read(lambda c: c.execute(_WAITING, names).scalar_one())
    return bool(count)

"""A transaction is still open when another comes that must not overlook it. On PostgreSQL only.

On SQLite there is one writer at a time, and nothing to overlook.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final

import pytest

from tests.builders import new_key
from tests.client import ALICE, OPERATIONS
from tests.faults.aftermath import books_of
from tests.faults.clients import Client
from tests.faults.figures import Figures
from tests.faults.history import Call, Request, ask
from tests.faults.points import Pause, points_around_the_services
from tests.faults.scenarios import direct_payment
from tests.faults.shop import Shop
from tests.faults.truth import read_truth
from tests.system.checkouts import POSTGRESQL, Checkouts

# Longer than the other needs if nothing keeps it waiting.
_TIME_TO_OVERTAKE: Final = 0.5
_SECONDS: Final = 20.0


@pytest.fixture(scope="module")
def shop(checkouts: Checkouts, errors_only: None, figures: Figures) -> Iterator[Shop]:
    """A shop for all of them. What has become of it all is checked at the end."""
    with (
        points_around_the_services() as points,
        checkouts.running(POSTGRESQL, payment_gateway_slow_seconds=0.01) as checkout,
    ):
        shop = Shop(checkout, POSTGRESQL, points, figures)
        yield shop
        shop.check()


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
    truth = read_truth(shop.checkout.order_database, books_of(shop.checkout).ledger)
    assert len(truth.charges_of(order.id)) <= 1


@pytest.mark.parametrize("point", ["refund.in_intent", "give_back.in_intent"])
def test_no_more_is_given_back_than_was_paid(
    shop: Shop, pool: ThreadPoolExecutor, point: str
) -> None:
    order = shop.client.place()
    shop.client.insist(pay_through_the_order(order))
    refunds = [
        ask("RefundOrder", OPERATIONS, order_id=order.id, idempotency_key=new_key())
        for _ in range(2)
    ]
    overtake(shop, pool, refunds[0], point, refunds[1])


def overtake(
    shop: Shop, pool: ThreadPoolExecutor, first: Request, point: str, second: Request
) -> None:
    """Hold the first in the middle of its transaction, and see whether the second waits for it."""
    pause = Pause()
    shop.points.at(point, first.trace_id, pause)
    sending: list[Future[Call]] = [pool.submit(shop.client.insist, first)]
    assert pause.is_reached(_SECONDS), f"never reached {point}"
    sending.append(pool.submit(shop.client.insist, second))
    wait(sending[1:], _TIME_TO_OVERTAKE)
    pause.end()
    # One of them may have to wait for the worker that the other needs.
    while any(not future.done() for future in sending):
        wait(sending, _TIME_TO_OVERTAKE)
        shop.settle()
    for future in sending:
        future.result()
    shop.count("transactions overtaken")

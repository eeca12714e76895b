"""Each service dies at every point where it matters, on either database, and nothing is lost."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from order_service.storage.tables import idempotency_keys
from service_kit.clock import SystemClock
from tests.faults.cluster import postgres_urls, running_cluster, sqlite_urls
from tests.faults.figures import Figures
from tests.faults.forked import Zygote
from tests.faults.killing import Killing, Provoke, new_key
from tests.faults.scenarios import (
    MONEY,
    ORDER,
    OTHERS,
    PAYMENT,
    Scenario,
    direct_payment,
    leave_refund_pending,
    leave_unfinished,
    pay,
)
from tests.system.checkouts import BOTH, POSTGRESQL

TAKE = ("before_take", "in_take", "after_take")
OUTCOME = ("in_outcome", "after_outcome")


@pytest.fixture(scope="module", params=BOTH)
def killing(
    request: pytest.FixtureRequest,
    zygotes: dict[str, Zygote],
    figures: Figures,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Killing]:
    """A cluster for all points on a database. What has become of it all is checked at the end."""
    folder = tmp_path_factory.mktemp("killing")
    with ExitStack() as stack:
        if request.param == POSTGRESQL:
            urls = stack.enter_context(postgres_urls(request.getfixturevalue("postgres_server")))
        else:
            urls = stack.enter_context(sqlite_urls(folder))
        killing = Killing(stack.enter_context(running_cluster(zygotes, folder, urls)), figures)
        yield killing
        killing.check()


def _each(*scenarios: Scenario) -> list[Any]:
    return [
        pytest.param(scenario, point, id=f"{scenario.name}-{point}")
        for scenario in scenarios
        for point in scenario.points
    ]


@pytest.mark.parametrize(("scenario", "point"), _each(*MONEY, *OTHERS))
def test_a_client_that_returns_is_answered(
    killing: Killing, scenario: Scenario, point: str
) -> None:
    killing.kill_during(scenario, point, returns=True)


@pytest.mark.parametrize(("scenario", "point"), _each(*MONEY))
def test_what_a_client_leaves_behind_is_settled(
    killing: Killing, scenario: Scenario, point: str
) -> None:
    killing.kill_during(scenario, point, returns=False)


def _pass() -> None:
    """There is enough to do already."""


class TestWorkers:
    """Whatever is done in the background is done, however often it is broken off."""

    def test_settle(self, killing: Killing) -> None:
        for _ in range(12):
            leave_unfinished(killing.client)
        moments = (*TAKE, "before_call", "after_call", *OUTCOME)
        killing.kill_at_work(ORDER, {f"settle.{moment}": _pass for moment in moments})

    def test_resolve(self, killing: Killing) -> None:
        lost = Scenario("lost", ORDER, "pay", ["after_intent"], pay)
        moments = ("before_find", "in_find", "after_find")
        for _ in moments:
            killing.kill_during(lost, *lost.points, returns=False)
        killing.kill_at_work(PAYMENT, {f"resolve.{moment}": _pass for moment in moments})

    def test_feed(self, killing: Killing) -> None:
        moments = ("before_call", "after_call", "before_page", "in_page", "after_page")
        killing.kill_at_work(
            ORDER, {f"feed.{moment}": unreported_payment(killing) for moment in moments}
        )

    def test_inbox(self, killing: Killing) -> None:
        moments = (*TAKE, "before_call", "after_call", "before_apply", "in_apply", "after_apply")
        killing.kill_at_work(
            ORDER, {f"inbox.{moment}": unreported_payment(killing) for moment in moments}
        )

    def test_ask_about_payments(self, killing: Killing) -> None:
        moments = (*TAKE, "before_gateway", "after_gateway", *OUTCOME)
        killing.kill_at_work(
            PAYMENT, {f"ask.{moment}": unanswered_payment(killing) for moment in moments}
        )

    def test_ask_about_refunds(self, killing: Killing) -> None:
        moments = ("after_take", "after_gateway", *OUTCOME)
        for _ in moments:
            leave_refund_pending(killing.client)
        killing.kill_at_work(PAYMENT, {f"ask.{moment}": _pass for moment in moments})

    def test_forget(self, killing: Killing) -> None:
        keys = [new_key("forgotten", str(number)) for number in range(5)]
        for key in keys:
            killing.client.place(key=key)
        make_old(killing, keys)
        moments = ("before_keys", "in_keys", "after_keys")
        killing.kill_at_work(ORDER, {f"forget.{moment}": _pass for moment in moments})
        assert remembered(killing, keys) == 0


def unreported_payment(killing: Killing) -> Provoke:
    """A payment that only the payment service will know of."""
    request = direct_payment(killing.client.place(), "tok_visa")
    return lambda: killing.client.insist(request)


def unanswered_payment(killing: Killing) -> Provoke:
    """A payment whose first answer from the gateway will be lost."""
    request = direct_payment(killing.client.place(), "tok_timeoutBeforeCharge")
    return lambda: killing.client.deliver(request)


def make_old(killing: Killing, keys: list[str]) -> None:
    """Let two days go by for these keys."""
    long_ago = SystemClock().now() - timedelta(days=2)
    theirs = idempotency_keys.c.idempotency_key.in_(keys)
    statement = sa.update(idempotency_keys).where(theirs)
    statement = statement.values(used_at=long_ago, replied_at=long_ago, claimed_at=long_ago)
    killing.cluster.books.order_database.transact(lambda c: c.execute(statement))


def remembered(killing: Killing, keys: list[str]) -> int:
    """Count those of the keys that are still known."""
    theirs = idempotency_keys.c.idempotency_key.in_(keys)
    query = sa.select(sa.func.count()).where(theirs)
    database = killing.cluster.books.order_database
    return int(database.read(lambda connection: connection.execute(query).scalar_one()))

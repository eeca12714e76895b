"""A process that stops, is given up and is replaced does no harm when it goes on after all."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.faults.clients import Client
from tests.faults.cluster import postgres_urls, running_cluster
from tests.faults.figures import Figures
from tests.faults.forked import Zygote
from tests.faults.scenarios import (
    ORDER,
    PAYMENT,
    Scenario,
    cancel,
    cancel_in_between,
    cancel_too_late,
    direct_payment,
    fulfill,
    leave_refund_pending,
    leave_unfinished,
    pay,
    pay_directly,
    pay_in_vain,
    refund,
)
from tests.faults.zombies import Provoke, Work, Zombies
from tests.servers.postgres import PostgresServer

CALL = ("before_call", "after_call")
GATEWAY = ("before_gateway", "after_gateway")

# Never inside of a transaction: there everybody waits until the database gives it up, as they do
# for a process that has died there.
SCENARIOS = (
    Scenario("pay", ORDER, "pay", ("after_intent", *CALL, "after_outcome"), pay),
    Scenario("pay_in_vain", ORDER, "pay", CALL, pay_in_vain),
    Scenario("cancel", ORDER, "cancel", CALL, cancel),
    Scenario("cancel_too_late", ORDER, "cancel", CALL, cancel_too_late),
    Scenario("refund", ORDER, "refund", CALL, refund),
    Scenario("fulfill", ORDER, "fulfill", ("before_change", "after_change"), fulfill),
    Scenario("pay", PAYMENT, "process", ("after_intent", *GATEWAY), pay),
    Scenario("pay_directly", PAYMENT, "process", GATEWAY, pay_directly),
    Scenario("refund", PAYMENT, "give_back", GATEWAY, refund),
    Scenario("cancel", PAYMENT, "seal", ("before_seal", "after_seal"), cancel),
    Scenario("cancel_in_between", PAYMENT, "seal", GATEWAY, cancel_in_between),
)


@pytest.fixture(scope="module")
def zombies(
    zygotes: dict[str, Zygote],
    figures: Figures,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Zombies]:
    """Two of each service for all tests. What has become of it all is checked at the end."""
    folder = tmp_path_factory.mktemp("zombies")
    with ExitStack() as stack:
        urls = stack.enter_context(postgres_urls(postgres_server))
        cluster = running_cluster(zygotes, folder, urls, order_services=2, payment_services=2)
        zombies = Zombies(stack.enter_context(cluster), figures)
        yield zombies
        zombies.check()


def _each(*scenarios: Scenario) -> list[Any]:
    return [
        pytest.param(scenario, point, id=f"{scenario.name}-{point}")
        for scenario in scenarios
        for point in scenario.points
    ]


@pytest.mark.parametrize(("scenario", "point"), _each(*SCENARIOS))
def test_a_request_that_was_taken_over_is_done_once(
    zombies: Zombies, scenario: Scenario, point: str
) -> None:
    zombies.stop_during(scenario, point)


def _unfinished(client: Client) -> Provoke:
    """An operation whose client has gone."""
    return lambda: leave_unfinished(client)


def _unreported(client: Client) -> Provoke:
    """A payment that only the payment service will know of."""
    request = direct_payment(client.place(), "tok_visa")
    return lambda: client.insist(request)


def _unanswered(client: Client) -> Provoke:
    """A payment whose first answer from the gateway will be lost."""
    request = direct_payment(client.place(), "tok_timeoutBeforeCharge")
    return lambda: client.deliver(request)


def _refund_unanswered(client: Client) -> Provoke:
    """A refund whose first answer from the gateway will be lost."""
    return lambda: leave_refund_pending(client)


@pytest.mark.parametrize(
    ("module", "work", "provoke"),
    [
        (ORDER, Work("settle.after_take", "settle.after_outcome"), _unfinished),
        (ORDER, Work("settle.after_call", "settle.after_outcome"), _unfinished),
        (ORDER, Work("feed.before_page", "feed.after_page"), _unreported),
        (ORDER, Work("inbox.before_apply", "inbox.after_apply"), _unreported),
        (PAYMENT, Work("ask.after_take", "ask.after_outcome"), _unanswered),
        (PAYMENT, Work("ask.after_gateway", "ask.after_outcome"), _unanswered),
        (PAYMENT, Work("ask.after_gateway", "ask.after_outcome"), _refund_unanswered),
    ],
    ids=lambda value: value.stop if isinstance(value, Work) else None,
)
def test_work_that_was_taken_over_is_done_once(
    zombies: Zombies, module: str, work: Work, provoke: Callable[[Client], Provoke]
) -> None:
    zombies.stop_at_work(module, work, provoke)

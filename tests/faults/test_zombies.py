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
from tests.faults.zombies import Provoke, Zombies
from tests.servers.postgres import PostgresServer

CALL = ("before_call", "after_call")
GATEWAY = ("before_gateway", "after_gateway")

# Stopped inside of a transaction, it holds locks until the database gives its connection up.
SCENARIOS = (
    Scenario("pay", ORDER, "pay", ("after_intent", *CALL, "in_outcome", "after_outcome"), pay),
    Scenario("pay_in_vain", ORDER, "pay", CALL, pay_in_vain),
    Scenario("cancel", ORDER, "cancel", CALL, cancel),
    Scenario("cancel_too_late", ORDER, "cancel", CALL, cancel_too_late),
    Scenario("refund", ORDER, "refund", CALL, refund),
    Scenario("fulfill", ORDER, "fulfill", ("before_change", "in_change", "after_change"), fulfill),
    Scenario("pay", PAYMENT, "process", ("after_intent", *GATEWAY, "in_outcome"), pay),
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
    ("module", "point", "provoke"),
    [
        (ORDER, "settle.after_take", _unfinished),
        (ORDER, "settle.after_call", _unfinished),
        (ORDER, "feed.before_page", _unreported),
        (ORDER, "inbox.before_apply", _unreported),
        (PAYMENT, "ask.after_take", _unanswered),
        (PAYMENT, "ask.after_gateway", _unanswered),
        (PAYMENT, "ask.after_gateway", _refund_unanswered),
    ],
)
def test_work_that_was_taken_over_is_done_once(
    zombies: Zombies, module: str, point: str, provoke: Callable[[Client], Provoke]
) -> None:
    zombies.stop_at_work(module, point, provoke)

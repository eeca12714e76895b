"""Clocks jump, and keys grow old: money moves once, and nobody guesses."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

import payment_service.bootstrap
from order_service.application.needs_human import NeedsHuman as OrdersNeedHuman
from order_service.storage.store import SqlStore as OrderStore
from payment_service.application.ports import Declined
from payment_service.domain.audit import Actor
from service_kit import call
from tests.builders import CHAIN_KEY, new_key, new_trace_id
from tests.client import ALICE, OPERATIONS
from tests.faults import scenarios
from tests.faults.background import FORGET, run_dry
from tests.faults.clients import TOTAL, Client
from tests.faults.figures import Figures
from tests.faults.history import Answered, Call, Refused, Request, Unknown, ask
from tests.faults.points import Pause, points_around_the_services
from tests.faults.scenarios import MONEY, OTHERS, Prepare, Scenario
from tests.faults.shop import Shop
from tests.system.checkouts import BOTH, Checkouts

HOUR: Final = timedelta(hours=1)
JUMPS: Final = (HOUR, -HOUR)
NEARLY_OLD: Final = timedelta(hours=11.9)
TOO_OLD: Final = (timedelta(hours=12.1), timedelta(hours=25))
_SECONDS: Final = 10.0


@pytest.fixture(scope="module", params=BOTH)
def shop(
    request: pytest.FixtureRequest, checkouts: Checkouts, errors_only: None, figures: Figures
) -> Iterator[Shop]:
    """A shop for all tests on a database. What has become of it all is checked at the end."""
    with (
        points_around_the_services() as points,
        checkouts.running(request.param, payment_gateway_slow_seconds=0.01) as checkout,
    ):
        shop = Shop(checkout, request.param, points, figures)
        yield shop
        shop.check()


def jump(shop: Shop, by: timedelta) -> None:
    """Set the clock, as if it had been wrong."""
    shop.later(by)
    shop.count("clock jumps")


def _each(*chosen: Scenario, but: str = "in nothing") -> list[Any]:
    return [
        pytest.param(scenario, point, id=f"{scenario.name}-{point}")
        for scenario in chosen
        for point in scenario.points
        if f".{but}" not in point
    ]


class TestAClockThatJumps:
    @pytest.mark.parametrize(("scenario", "point"), _each(*MONEY, *OTHERS))
    def test_in_the_middle_of_a_call(self, shop: Shop, scenario: Scenario, point: str) -> None:
        for by in JUMPS:
            request = scenario.prepare(shop.client, new_key())
            jumped = threading.Event()

            def happens(by: timedelta = by, jumped: threading.Event = jumped) -> None:
                jump(shop, by)
                jumped.set()

            shop.points.at(point, request.trace_id, happens)
            shop.client.insist(request)
            assert jumped.is_set(), f"never reached {point}"

    # Within a transaction a repeat waits for the first, whatever the clock says.
    @pytest.mark.parametrize(("scenario", "point"), _each(*MONEY, *OTHERS, but="in_"))
    def test_so_that_a_repeat_takes_over_from_a_call_that_goes_on(
        self, shop: Shop, scenario: Scenario, point: str
    ) -> None:
        for by in JUMPS:
            request = scenario.prepare(shop.client, new_key())
            pause = Pause()
            shop.points.at(point, request.trace_id, pause)
            first = threading.Thread(target=shop.client.once, args=(request,))
            first.start()
            assert pause.is_reached(_SECONDS), f"never reached {point}"
            jump(shop, by)
            shop.client.insist(request)
            pause.end()
            first.join(_SECONDS)
            assert not first.is_alive()

    @pytest.mark.parametrize("by", JUMPS, ids=["forwards", "backwards"])
    @pytest.mark.parametrize("leave", ["pay", "pay_directly", "refund", "cancel"])
    def test_leaves_nothing_undone(self, shop: Shop, leave: str, by: timedelta) -> None:
        """Nobody comes back: the workers end it at once, not in an hour."""
        for _ in range(3):
            LEFT_BEHIND[leave](shop.client)
        jump(shop, by)
        shop.settle()
        shop.check()


def _left_cancelled(client: Client) -> None:
    """Cancel an order whose payment the gateway has not answered, and do not come back."""
    client.deliver(scenarios.cancel_in_between(client, new_key()))


def _left_paid_directly(client: Client) -> None:
    """Pay an order's ticket, and do not come back; the order service has not been told."""
    client.deliver(scenarios.direct_payment(client.place(), "tok_timeoutAfterCharge"))


LEFT_BEHIND: Final[dict[str, Callable[[Client], None]]] = {
    "pay": scenarios.leave_unfinished,
    "pay_directly": _left_paid_directly,
    "refund": scenarios.leave_refund_pending,
    "cancel": _left_cancelled,
}


# What the same request gets when its key is forgotten: it is a new one.
A_DAY_LATER: Final[dict[str, tuple[Prepare, str]]] = {
    "create": (scenarios.create, "OK"),
    "pay": (scenarios.pay, "INVALID_TRANSITION"),
    "pay_in_vain": (scenarios.pay_in_vain, "PAYMENT_DECLINED"),
    "mark": (scenarios.mark, "OK"),
    "cancel": (scenarios.cancel, "INVALID_TRANSITION"),
    "refund": (scenarios.refund, "INVALID_TRANSITION"),
    "refund_a_part": (scenarios.refund_a_part, "OK"),
    "fulfil": (scenarios.fulfill, "INVALID_TRANSITION"),
    "archive": (scenarios.archive, "INVALID_TRANSITION"),
}


class TestAKeyOfAClient:
    @pytest.mark.parametrize("what", A_DAY_LATER)
    def test_is_good_for_the_same_reply_for_a_day(self, shop: Shop, what: str) -> None:
        prepare, anew = A_DAY_LATER[what]
        request = prepare(shop.client, new_key())
        first = shop.client.insist(request)
        shop.later(timedelta(hours=23))
        run_dry(shop.checkout, FORGET)
        assert reply(shop.client.once(request)) == reply(first)
        shop.later(timedelta(hours=2))
        # Sent as it is; in the history it is another one from now on.
        later = replace(request, key=f"{request.key}, forgotten", trace_id=new_trace_id())
        again = shop.client.once(later)
        assert told(again) == anew
        # Of a new order there is nothing else to be seen.
        assert what == "mark" or reply(again) != reply(first)
        assert reply(shop.client.once(later)) == reply(again)

    def test_is_good_for_ever_at_the_payment_service(self, shop: Shop) -> None:
        request = scenarios.pay_directly(shop.client, new_key())
        first = shop.client.insist(request)
        shop.later(timedelta(hours=25))
        assert reply(shop.client.once(request)) == reply(first)
        assert shop.checkout.ledger.charges(request.order_id) == [TOTAL]

    def test_is_not_forgotten_while_its_payment_is_under_way(self, shop: Shop) -> None:
        """And then the gateway has forgotten its own: it is looked up, and not charged again."""
        request = pay(shop, "tok_timeoutAfterCharge")
        shop.client.deliver(request)
        shop.later(timedelta(hours=25))
        run_dry(shop.checkout, FORGET)
        assert told(shop.client.insist(request)) == "OK"
        assert shop.checkout.ledger.charges(request.order_id) == [TOTAL]

    def test_is_as_old_as_its_reply(self, shop: Shop) -> None:
        """That may have come long after the request, and to a worker."""
        request = pay(shop, "tok_timeoutAfterCharge")
        shop.client.deliver(request)
        shop.later(timedelta(hours=20))
        shop.settle()
        shop.later(timedelta(hours=23))
        run_dry(shop.checkout, FORGET)
        assert told(shop.client.once(request)) == "OK"


class TestAKeyAtTheGateway:
    @pytest.mark.parametrize("token", ["tok_timeoutBeforeCharge", "tok_timeoutAfterCharge"])
    def test_is_sent_again_until_it_is_old(self, shop: Shop, token: str) -> None:
        request = pay(shop, token)
        shop.client.deliver(request)
        shop.later(NEARLY_OLD)
        assert told(shop.client.insist(request)) == "OK"
        assert sent(shop, request) == 2
        assert shop.checkout.ledger.charges(request.order_id) == [TOTAL]

    @pytest.mark.parametrize("age", TOO_OLD, ids=["12.1h", "25h"])
    @pytest.mark.parametrize("who", ["client", "worker"])
    def test_is_looked_up_from_then_on(self, shop: Shop, who: str, age: timedelta) -> None:
        request = pay(shop, "tok_timeoutAfterCharge")
        shop.client.deliver(request)
        shop.later(age)
        if who == "worker":
            shop.settle()
        assert told(shop.client.insist(request)) == "OK"
        assert sent(shop, request) == 1
        assert shop.checkout.ledger.charges(request.order_id) == [TOTAL]

    @pytest.mark.parametrize("age", TOO_OLD, ids=["12.1h", "25h"])
    @pytest.mark.parametrize("who", ["client", "worker"])
    def test_gives_nothing_back_twice(self, shop: Shop, who: str, age: timedelta) -> None:
        client = shop.client
        paid = pay(shop, "tok_refundTimeoutAfter")
        client.insist(paid)
        request = ask("RefundOrder", OPERATIONS, order_id=paid.order_id)
        client.deliver(request)
        shop.later(age)
        if who == "worker":
            shop.settle()
        assert told(client.insist(request)) == "OK"
        assert shop.checkout.ledger.refunds(request.order_id) == [TOTAL]

    @pytest.mark.parametrize("age", TOO_OLD, ids=["12.1h", "25h"])
    def test_that_is_not_found_waits_for_a_person(self, shop: Shop, age: timedelta) -> None:
        request = pay(shop, "tok_timeoutBeforeCharge")
        shop.client.deliver(request)
        shop.later(age)
        cancel = ask("CancelOrder", ALICE, order_id=request.order_id)
        for _ in range(3):
            assert isinstance(shop.client.once(request).outcome, Unknown)
            assert told(shop.client.once(cancel)) == "PAYMENT_IN_PROGRESS"
            shop.settle()
            # Time alone decides nothing.
            shop.later(timedelta(days=3))
        assert sent(shop, request) == 1
        assert shop.checkout.ledger.requests(request.order_id) == 0
        assert waits_for_a_person(shop, request.order_id)
        say_that_nothing_was_charged(shop, request.order_id)
        shop.settle()
        assert not waits_for_a_person(shop, request.order_id)
        assert told(shop.client.insist(request)) == "PAYMENT_DECLINED"
        assert told(shop.client.insist(cancel)) == "OK"

    def test_is_looked_up_before_a_person_is_believed(self, shop: Shop) -> None:
        request = pay(shop, "tok_timeoutAfterCharge")
        shop.client.deliver(request)
        shop.later(TOO_OLD[-1])
        say_that_nothing_was_charged(shop, request.order_id)
        assert told(shop.client.insist(request)) == "OK"
        assert shop.checkout.ledger.charges(request.order_id) == [TOTAL]


def pay(shop: Shop, token: str) -> Request:
    """Place an order, and build the request that pays it."""
    order_id = shop.client.place().id
    return ask("PayOrder", ALICE, order_id=order_id, payment_token=token)


def told(call: Call) -> str:
    """Return the reason of a refusal, OK for an answer."""
    if isinstance(call.outcome, Refused):
        return call.outcome.reason
    assert isinstance(call.outcome, Answered), call.outcome
    return "OK"


def reply(call: Call) -> bytes:
    """Return the digest of a final reply."""
    assert isinstance(call.outcome, Answered | Refused), call.outcome
    assert call.outcome.reply
    return call.outcome.reply


def sent(shop: Shop, request: Request) -> int:
    """Count how often the gateway was sent the key of the order's one payment."""
    [payment] = shop.checkout.payments(OPERATIONS).ListPayments(order_id=request.order_id).payments
    ledger = shop.checkout.payment_settings.effective_gateway_ledger()
    with closing(sqlite3.connect(ledger)) as connection:
        query = "SELECT attempts FROM requests WHERE key = ?"
        [attempts] = connection.execute(query, (payment.id,)).fetchone()
    return int(attempts)


def waits_for_a_person(shop: Shop, order_id: str) -> bool:
    """Say whether both services list the order's payment for a person; neither may do so alone."""
    checkout = shop.checkout
    store = OrderStore(checkout.order_database, chain_key=CHAIN_KEY)
    ours = {case.order_id for case in OrdersNeedHuman(store=store, clock=checkout.clock)()}
    settings = checkout.payment_settings
    with payment_service.bootstrap.needs_human(settings, clock=checkout.clock) as theirs:
        listed = {case.order_id for case in theirs()}
    assert (order_id in ours) == (order_id in listed)
    return order_id in ours


def say_that_nothing_was_charged(shop: Shop, order_id: str) -> None:
    """Have an operator end the order's payment."""
    settings, clock = shop.checkout.payment_settings, shop.checkout.clock
    by = Actor(role="operations", id="olga", on_behalf_of="", trace_id=new_trace_id())
    with ExitStack() as stack:
        needs_human = stack.enter_context(
            payment_service.bootstrap.needs_human(settings, clock=clock)
        )
        settle = stack.enter_context(
            payment_service.bootstrap.settle_by_hand(settings, clock=clock)
        )
        deadline = stack.enter_context(call.background("settle", seconds=_SECONDS))
        [payment_id] = [case.id for case in needs_human() if case.order_id == order_id]
        settle.payment(payment_id, Declined("said_by_operator"), by=by, deadline=deadline)

"""Any calls in any order: each is answered, and leaves each order, as the reference says."""

import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Final

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import StopTest
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.builders import new_key
from tests.checkout import Checkout
from tests.client import OPERATIONS, SHOP, Caller
from tests.clock import CreepingClock
from tests.faults.aftermath import books_of, violations
from tests.faults.background import APPLY, ASK_AGAIN, FORGET, READ, SETTLE
from tests.faults.comparison import Comparison
from tests.faults.figures import Figures
from tests.faults.reference import ROLES
from tests.faults.requests import Request
from tests.faults.size import sized
from tests.system.checkouts import BOTH, Checkouts

STEPS: Final = 50
EXAMPLES: Final = 240


def weighted(choices: Mapping[Any, int]) -> st.SearchStrategy[Any]:
    """Choose; a weight says how many times as often."""
    return st.sampled_from([choice for choice, weight in choices.items() for _ in range(weight)])


TOKENS: Final = weighted(
    {
        "tok_visa": 5,
        "tok_chargeDeclined": 1,
        "tok_slow": 1,
        "tok_timeoutBeforeCharge": 2,
        "tok_timeoutAfterCharge": 2,
        "tok_refundFail": 1,
        "tok_refundTimeoutAfter": 3,
        "tok_refundSlow": 1,
        "tok_unheardOf": 1,
    }
)
WHO: Final = weighted({"the owner": 9, "the shop": 4, "operations": 1, "somebody else": 1})
STAFF: Final = weighted({"the shop": 6, "operations": 3, "the owner": 1})
ETAGS: Final = weighted({"": 9, "current": 2, "stale": 1})
AMOUNTS: Final = st.one_of(st.none(), st.integers(1, 2500), st.integers(1, 500), st.just(10_000))
CURRENCIES: Final = weighted({"EUR": 11, "USD": 1})
# Which of the orders that an action is for; at times any.
PICKS: Final = st.integers(0, 15)
WORK: Final = st.sampled_from([*ASK_AGAIN, SETTLE, READ, APPLY, FORGET])
MOVES: Final = weighted(
    {
        timedelta(seconds=2): 3,
        timedelta(seconds=6): 6,
        timedelta(minutes=1): 2,
        timedelta(hours=1): 2,
        timedelta(hours=11.9): 1,
        timedelta(hours=12.1): 1,
        timedelta(hours=25): 1,
    }
)
# Between two steps, so that two of them are never at the same moment.
TICK: Final = timedelta(milliseconds=1)

_stories = itertools.count(1)


class Shopping(RuleBasedStateMachine):
    """Two customers, a shop, operations, and a payment service that may go away."""

    checkout: ClassVar[Checkout]
    figures: ClassVar[Figures]
    database: ClassVar[str]

    requests: Bundle[Request] = Bundle("requests")
    payments: Bundle[Request] = Bundle("payments")

    def __init__(self) -> None:
        super().__init__()
        # Whose orders are listed are those of this story.
        story = next(_stories)
        self.alice = Caller("customer", f"alice-{story}")
        self.bob = Caller("customer", f"bob-{story}")
        self.comparison = Comparison(self.checkout)
        self.sent: list[Request] = []
        self.may_go_away = False
        self.steps = -1

    @invariant()
    def a_moment_passes(self) -> None:
        self.comparison.pass_time(TICK)
        self.steps += 1

    # Orders.

    @initialize(token=TOKENS, goes_away=weighted({False: 15, True: 1}))
    def open(self, token: str, *, goes_away: bool) -> None:
        self.may_go_away = goes_away
        for _ in range(2):
            self.place(self.alice, 4000, self.alice)
        self.ask("PayOrder", self.order(1, "created"), "the owner", token=token)

    @rule(total=st.integers(1501, 9999), by_shop=st.booleans(), for_alice=st.booleans())
    def create(self, total: int, *, by_shop: bool, for_alice: bool) -> None:
        customer = self.alice if for_alice else self.bob
        self.place(SHOP if by_shop else customer, total, customer)

    @rule(target=requests, total=st.integers(1501, 9999), token=TOKENS)
    def buy(self, total: int, token: str) -> Request:
        order = self.place(self.bob, total, self.bob)
        return self.ask("PayOrder", order, "the owner", token=token)

    @rule(target=requests, pick=PICKS, who=WHO, token=TOKENS, etag=ETAGS)
    def pay(self, pick: int, who: str, token: str, etag: str) -> Request:
        return self.ask("PayOrder", self.order(pick, "created"), who, etag, token=token)

    @rule(target=requests, pick=PICKS, who=WHO, etag=ETAGS)
    def cancel(self, pick: int, who: str, etag: str) -> Request:
        return self.ask("CancelOrder", self.order(pick, "created"), who, etag)

    @rule(target=requests, pick=PICKS, who=STAFF, etag=ETAGS)
    def fulfill(self, pick: int, who: str, etag: str) -> Request:
        return self.ask("FulfillOrder", self.order(pick, "paid"), who, etag)

    @rule(target=requests, pick=PICKS, etag=ETAGS)
    def archive(self, pick: int, etag: str) -> Request:
        return self.ask("ArchiveOrder", self.order(pick, "fulfilled"), "the shop", etag)

    @rule(target=requests, pick=PICKS, etag=ETAGS, amount=AMOUNTS, currency=CURRENCIES)
    def refund(self, pick: int, etag: str, amount: int | None, currency: str) -> Request:
        order = self.order(pick, "paid")
        return self.ask("RefundOrder", order, "operations", etag, amount=amount, currency=currency)

    @rule(target=requests, pick=PICKS, amount=st.integers(1, 900))
    def refund_a_little(self, pick: int, amount: int) -> Request:
        return self.ask("RefundOrder", self.order(pick, "paid"), "operations", amount=amount)

    # Payments without the order service.

    @precondition(lambda self: self.comparison.reference.is_payment_service_there)
    @rule(target=payments, pick=PICKS, who=WHO, token=TOKENS)
    def pay_directly(self, pick: int, who: str, token: str) -> Request:
        order = self.order(pick, "created")
        caller = self.caller(who, order)
        request = Request("ProcessPayment", caller, new_key(), order_id=order, token=token)
        self.comparison.send(request)
        return request

    @precondition(lambda self: self.comparison.reference.is_payment_service_there)
    @rule(request=payments)
    def pay_directly_again(self, request: Request) -> None:
        self.comparison.send(request)

    @precondition(lambda self: self.comparison.reference.is_payment_service_there)
    @rule(request=payments, pick=PICKS, token=TOKENS)
    def pay_directly_with_a_used_key(self, request: Request, pick: int, token: str) -> None:
        other = replace(request, order_id=self.order(pick, "created"), token=token)
        self.comparison.send(other)

    @rule(target=requests, of=payments, who=WHO)
    def mark_its_order_paid(self, of: Request, who: str) -> Request:
        return self.ask("MarkOrderPaid", of.order_id, who, payment_id=self.payment_of(of))

    @rule(target=requests, pick=PICKS, who=WHO, etag=ETAGS, of=payments)
    def mark_any_paid(self, pick: int, who: str, etag: str, of: Request) -> Request:
        payment_id = self.payment_of(of)
        order = self.order(pick, "created")
        return self.ask("MarkOrderPaid", order, who, etag, payment_id=payment_id)

    @rule(target=requests, pick=PICKS, etag=ETAGS)
    def mark_paid_by_what_paid_it(self, pick: int, etag: str) -> Request:
        order = self.order(pick, "paid", "fulfilled", "refunded", "archived")
        payment = self.comparison.reference.orders[order].payment
        payment_id = payment.id if payment else "pay_unheard_of"
        return self.ask("MarkOrderPaid", order, "the shop", etag, payment_id=payment_id)

    # Requests that were made before.

    @rule(request=requests)
    def repeat(self, request: Request) -> None:
        self.comparison.send(request)

    @rule(back=st.integers(1, 4))
    def repeat_a_recent_one(self, back: int) -> None:
        self.comparison.send(self.sent[-min(back, len(self.sent))])

    @rule(request=requests, pick=PICKS, etag=ETAGS)
    def reuse_a_key_for_another_order(self, request: Request, pick: int, etag: str) -> None:
        order = self.order(pick, "created", "paid")
        self.comparison.send(replace(request, order_id=order, etag=self.etag(order, etag)))

    @rule(request=requests, rpc=st.sampled_from(["CancelOrder", "FulfillOrder", "ArchiveOrder"]))
    def reuse_a_key_for_another_method(self, request: Request, rpc: str) -> None:
        self.comparison.send(replace(request, rpc=rpc))

    @rule(request=requests, wrong=st.sampled_from(["idempotency_key", "order_id", "etag"]))
    def send_an_invalid_field(self, request: Request, wrong: str) -> None:
        allowed = request.caller.role in ROLES[request.rpc]
        value = "x" * 65 if wrong == "etag" else "not an identifier!"
        reason = "VALIDATION_FAILED" if allowed else "ROLE_NOT_ALLOWED"
        self.comparison.refuse(request, reason, **{wrong: value})

    @rule(request=requests)
    def send_a_card_number(self, request: Request) -> None:
        allowed = request.caller.role in ROLES[request.rpc]
        reason = "CARD_DATA_NOT_ACCEPTED" if allowed else "ROLE_NOT_ALLOWED"
        self.comparison.refuse(request, reason, etag="4242424242424242")

    # Reading.

    @rule(of_alice=st.booleans(), status=st.sampled_from(["", "paid", "created"]))
    def list_orders(self, status: str, *, of_alice: bool) -> None:
        customer = self.alice if of_alice else self.bob
        self.comparison.list_orders(customer.id, status, page_size=3)

    @rule(pick=PICKS)
    def read_history(self, pick: int) -> None:
        self.comparison.read_history(self.order(pick))

    @rule()
    def follow_history(self) -> None:
        self.comparison.follow_history()

    # Time, workers, and the payment service's absence.

    @rule(by=MOVES)
    def pass_time(self, by: timedelta) -> None:
        self.comparison.pass_time(by)

    @rule(task=WORK)
    def work(self, task: str) -> None:
        is_there = self.comparison.reference.is_payment_service_there
        # A service that is away does nothing.
        if is_there or task not in ASK_AGAIN:
            self.comparison.work(task)

    @rule()
    def settle_what_is_left_behind(self) -> None:
        self.comparison.pass_time(timedelta(seconds=6))
        self.comparison.work(SETTLE)

    @precondition(lambda self: self.comparison.reference.is_payment_service_there)
    @rule()
    def ask_a_person(self) -> None:
        self.comparison.settle_by_hand()

    @precondition(
        lambda self: self.may_go_away and self.comparison.reference.is_payment_service_there
    )
    @rule()
    def take_payments_away(self) -> None:
        self.may_go_away = False
        self.comparison.take_payments_away()

    @precondition(lambda self: not self.comparison.reference.is_payment_service_there)
    @rule()
    def bring_payments_back(self) -> None:
        self.comparison.bring_payments_back()

    def teardown(self) -> None:
        self.figures.add(f"stateful steps, {self.database}", max(self.steps, 0))
        # A story that is broken off for its length has not failed: what it leaves behind would wait
        # for a person once the next one lets a day pass.
        if sys.exc_info()[0] in (None, StopTest):
            self.comparison.heal()
            self.comparison.compare_everything()
        elif not self.comparison.reference.is_payment_service_there:
            self.comparison.bring_payments_back()

    # Helpers.

    def place(self, caller: Caller, total: int, customer: Caller) -> str:
        request = Request("CreateOrder", caller, new_key(), total=total, customer_id=customer.id)
        self.sent.append(request)
        return self.comparison.place(request)

    def ask(self, rpc: str, order: str, who: str, etag: str = "", **fields: Any) -> Request:
        caller, etag = self.caller(who, order), self.etag(order, etag)
        request = Request(rpc, caller, new_key(), order_id=order, etag=etag, **fields)
        self.sent.append(request)
        self.comparison.send(request)
        return request

    def order(self, pick: int, *statuses: str) -> str:
        every = list(self.comparison.reference.orders.values())
        suited = [order for order in every if order.status in statuses]
        orders = suited if suited and pick % 8 else every
        return orders[-1 - pick % len(orders)].id

    def caller(self, who: str, order_id: str) -> Caller:
        owner = self.comparison.reference.orders[order_id].customer_id
        mine, others = (self.alice, self.bob) if owner == self.alice.id else (self.bob, self.alice)
        return {
            "the owner": mine,
            "somebody else": others,
            "the shop": SHOP,
            "operations": OPERATIONS,
        }[who]

    def etag(self, order_id: str, etag: str) -> str:
        version = self.comparison.reference.orders[order_id].version
        return {"": "", "current": str(version), "stale": str(version + 1)}[etag]

    def payment_of(self, request: Request) -> str:
        payment = self.comparison.reference.payments.of_key(request.scope)
        return payment.id if payment else "pay_unheard_of"


@pytest.fixture(scope="module", params=BOTH)
def standing(
    request: pytest.FixtureRequest, checkouts: Checkouts, errors_only: None
) -> Iterator[tuple[str, Checkout]]:
    """A database and a checkout on it whose clock stands nearly still until it is moved."""
    with checkouts.running(
        request.param, clock=CreepingClock(), payment_gateway_slow_seconds=0.005
    ) as checkout:
        yield request.param, checkout


def stories_on(standing: tuple[str, Checkout], figures: Figures) -> type[Shopping]:
    """Make the class of the stories that are told on a checkout."""

    class Story(Shopping):
        database, checkout = standing

    Story.figures = figures
    return Story


def test_a_payment_of_another_order_pays_for_nothing(
    standing: tuple[str, Checkout], figures: Figures
) -> None:
    """Chance takes long to get there: of the same customer, and over the same amount."""
    story = stories_on(standing, figures)()
    one, other = (story.place(story.alice, 4000, story.alice) for _ in range(2))
    payment = Request("ProcessPayment", story.alice, new_key(), order_id=one, token="tok_visa")
    story.comparison.send(payment)
    story.ask("MarkOrderPaid", other, "the shop", payment_id=story.payment_of(payment))
    story.teardown()


def test_a_refund_that_only_a_worker_has_asked_for_is_given_once(
    standing: tuple[str, Checkout], figures: Figures
) -> None:
    """Chance takes long to get there: the worker's first answer is lost, and nobody has seen it."""
    story = stories_on(standing, figures)()
    order = story.place(story.alice, 4000, story.alice)
    story.ask("PayOrder", order, "the owner", token="tok_refundTimeoutAfter")
    story.comparison.take_payments_away()
    story.ask("RefundOrder", order, "operations", amount=100)
    story.comparison.bring_payments_back()
    for _ in range(2):
        story.settle_what_is_left_behind()
    assert story.comparison.reference.orders[order].refunded == 100
    story.teardown()


# The shortest story is looked for, for minutes, only where the whole of them is told.
_PHASES: Final = set(Phase) if sized(100) == 100 else set(Phase) - {Phase.shrink}


@pytest.mark.takes_minutes
@pytest.mark.filterwarnings(
    # Threads of the services draw from it meanwhile, for the pauses that they advise.
    "ignore:Do not use the `random` module inside strategies"
)
def test_any_calls_in_any_order(
    standing: tuple[str, Checkout], figures: Figures, seed: int
) -> None:
    story = stories_on(standing, figures)
    hypothesis.seed(seed)(story)
    run_state_machine_as_test(
        story,
        settings=settings(
            max_examples=sized(EXAMPLES),
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            phases=_PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )
    checkout = story.checkout
    assert violations(books_of(checkout), figures, clock=checkout.clock) == []

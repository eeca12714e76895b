"""A caller's time is over at whatever step: the same request, sent again, is answered rightly."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from random import Random
from typing import Final, TypeVar

import pytest

from tests.builders import new_key
from tests.faults.figures import Figures
from tests.faults.history import Answered, Call, Refused, Unknown
from tests.faults.points import Pause, points_around_the_services
from tests.faults.scenarios import MONEY, Scenario
from tests.faults.shop import Shop
from tests.faults.size import sized
from tests.system.checkouts import BOTH, SQLITE, Checkouts

T = TypeVar("T")

# What each request has to be told in the end.
ANSWERS: Final = {
    "pay": "paid",
    "pay_directly": "succeeded",
    "pay_in_vain": "PAYMENT_DECLINED",
    "cancel": "cancelled",
    "cancel_too_late": "INVALID_TRANSITION",
    # The gateway is asked again about the payment that was first, and charges.
    "cancel_in_between": "INVALID_TRANSITION",
    "refund": "refunded",
    "refund_a_part": "paid",
    "refund_in_vain": "REFUND_DECLINED",
}
# Less than this is refused before anything begins.
LEAST_SECONDS: Final = {"pay_directly": 0.5}
_LEAST_SECONDS: Final = 1.0
# So that the first steps are done before it is over, on a busy machine too.
_MORE_SECONDS: Final = 0.15
_TRIES_MAX: Final = 5
_AT_ONCE: Final = 16
# Of the shortest deadlines some end before the request has arrived.
_SHORT_SECONDS: Final = (0.001, 0.4)
_DEADLINES: Final = 120

Step = tuple[Scenario, str]
STEPS: Final[Sequence[Step]] = [(s, point) for s in MONEY for point in s.points]


class Then(Enum):
    """What the caller does whose time is over, and when."""

    # While whoever serves the request is still at the step.
    COMES_BACK_AT_ONCE = "comes-back-at-once"
    # When that has come to its end.
    COMES_BACK = "comes-back"
    IS_GONE = "is-gone"


@pytest.fixture(scope="module", params=BOTH)
def shop(
    request: pytest.FixtureRequest, checkouts: Checkouts, errors_only: None, figures: Figures
) -> Iterator[tuple[str, Shop]]:
    """A shop for all deadlines on a database. What became of it all is checked at the end."""
    with (
        points_around_the_services() as points,
        checkouts.running(request.param, payment_gateway_slow_seconds=0.01) as checkout,
    ):
        shop = Shop(checkout, request.param, points, figures)
        yield request.param, shop
        shop.check()


def at_once(run: Callable[[T], None], items: Iterable[T], *, threads: int) -> None:
    """Do it with all of them, so many at the same time."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, items))


def told(call: Call) -> str:
    """Say what an answer tells of the order or the payment, or why it was refused."""
    match call.outcome:
        case Refused(reason=reason):
            return reason
        case Answered(order=order, payment=payment):
            seen = order or payment
            assert seen is not None
            return seen.status
        case Unknown(problem=problem):
            return problem


def expect_answer(shop: Shop, scenario: Scenario, call: Call) -> None:
    """Send the request again until it is answered, and compare."""
    call = shop.client.insist(call.request)
    assert told(call) == ANSWERS[scenario.name], call


def is_within(step: Step) -> bool:
    """Say whether it is in the middle of a transaction."""
    return ".in_" in step[1]


def least_seconds(scenario: Scenario) -> float:
    """Return the shortest deadline with which the request is begun."""
    return LEAST_SECONDS.get(scenario.name, _LEAST_SECONDS)


class TestADeadline:
    @pytest.mark.parametrize("then", Then, ids=lambda then: then.value)
    def test_that_ends_at_any_step(self, shop: tuple[str, Shop], then: Then) -> None:
        database, open_shop = shop
        run = partial(end_at, open_shop, then)
        at_once(run, [step for step in STEPS if not is_within(step)], threads=_AT_ONCE)
        # Who stops within a transaction stops whoever comes back at once; on SQLite everybody.
        within = [step for step in STEPS if is_within(step)]
        if database == SQLITE and then is Then.COMES_BACK:
            each_once = {point: (scenario, point) for scenario, point in within}
            at_once(run, each_once.values(), threads=1)
        elif database != SQLITE and then is not Then.COMES_BACK_AT_ONCE:
            at_once(run, within, threads=_AT_ONCE)

    def test_that_ends_at_any_moment(self, shop: tuple[str, Shop], seed: int) -> None:
        _, open_shop = shop
        random = Random(seed)  # noqa: S311 - it must be repeatable
        runs = [planned(random) for _ in range(sized(_DEADLINES))]
        at_once(partial(end_after, open_shop), runs, threads=_AT_ONCE)


def end_at(shop: Shop, then: Then, step: Step) -> None:
    """Have the deadline of a request end exactly there."""
    scenario, point = step
    for tries in range(_TRIES_MAX):
        request = scenario.prepare(shop.client, new_key())
        pause = Pause()
        shop.points.at(point, request.trace_id, pause)
        deadline = least_seconds(scenario) + _MORE_SECONDS * 2**tries
        call = shop.client.once(request, timeout=deadline)
        is_there = pause.is_reached()
        if then is Then.COMES_BACK_AT_ONCE and is_there:
            expect_answer(shop, scenario, call)
        pause.end()
        if then is Then.COMES_BACK or not is_there:
            expect_answer(shop, scenario, call)
        if is_there:
            assert isinstance(call.outcome, Unknown), call
            shop.count("deadlines")
            return
    raise AssertionError(f"never reached {point}")


Run = tuple[Step, float, float]


def planned(random: Random) -> Run:
    """Choose a request, a step at which it is held up, for how long, and its deadline."""
    scenario, point = random.choice([step for step in STEPS if not is_within(step)])
    least = least_seconds(scenario)
    if random.random() < 1 / 3:
        shortest, longest = map(math.log, _SHORT_SECONDS)
        return (scenario, point), 0.0, math.exp(random.uniform(shortest, longest))
    return (scenario, point), random.uniform(0.0, least), least + random.uniform(0.0, 0.3)


def end_after(shop: Shop, run: Run) -> None:
    """Have the deadline of a request end wherever it then is."""
    (scenario, point), held_up, deadline = run
    request = scenario.prepare(shop.client, new_key())
    shop.points.at(point, request.trace_id, partial(time.sleep, held_up))
    call = shop.client.once(request, timeout=deadline)
    if isinstance(call.outcome, Unknown) or told(call) == "DEADLINE_TOO_SHORT":
        shop.count("deadlines")
    expect_answer(shop, scenario, call)

"""Requests that arrive when everything is over: what was decided meanwhile stays decided."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import pytest

import order_service.bootstrap
from tests.captured_log import CapturedLog, captured_log
from tests.checkout import Checkout
from tests.client import ALICE, OPERATIONS
from tests.faults.drafts import tried_without_locks
from tests.faults.errands import TOTAL, paid, placed, process_payment
from tests.faults.figures import Figures
from tests.faults.history import Answered, Refused, Request, Unknown, ask
from tests.faults.lines import CALLERS, DIRECT, SERVICES, Lines, breakable
from tests.faults.proxy import Effect, Fault, Way
from tests.system.checkouts import BOTH, Checkouts
from tests.system.simultaneously import wait_until

# By then an operation counts as left behind.
ABANDONED: Final = timedelta(seconds=6)
RUNS: Final = 2
# As long as a call that is held is waited for: on its way it commits, and has to call in time.
HELD_SECONDS: Final = 3.0


class LateRequests:
    """Holds a request on its way, and delivers it when its caller has long been gone."""

    def __init__(self, lines: Lines, log: CapturedLog, count: Callable[[int], None]) -> None:
        self._lines = lines
        self._log = log
        self._count = count

    def hold(self, request: Request, *, line: str) -> None:
        """Send the request; it does not arrive, and neither does anything sent in its place."""
        self._connect(line)
        proxy = self._lines.proxies[line]
        proxy.arm(Fault(Effect.HOLD, Way.REQUEST))
        proxy.refuse()
        call = self._lines.send(request, timeout=HELD_SECONDS)
        assert proxy.struck.is_set()
        assert isinstance(call.outcome, Unknown), call.outcome
        proxy.refuse(refuse=False)
        self._count(1)

    def deliver(self, rpc: str, *, line: str) -> None:
        """Let it arrive, and wait until it has been answered; nobody hears the answer."""
        before = self._answered(rpc)
        assert self._lines.proxies[line].release() > 0
        wait_until(lambda: self._answered(rpc) > before)
        self._lines.heal()

    def _connect(self, line: str) -> None:
        """Have a call go over the line, so that what is held is not the greeting."""
        nothing = {CALLERS: ask("GetOrder", ALICE, order_id="ord_none")}
        nothing[DIRECT] = ask("GetPayment", ALICE, payment_id="pay_none")
        nothing[SERVICES] = ask(
            "MarkOrderPaid", ALICE, order_id=placed(self._lines), transaction_id="pay_none"
        )
        wait_until(lambda: self._reason(nothing[line]).endswith("_NOT_FOUND"))

    def _reason(self, request: Request) -> str:
        outcome = self._lines.send(request).outcome
        return outcome.reason if isinstance(outcome, Refused) else ""

    def _answered(self, rpc: str) -> int:
        return sum(line["method"].endswith(f"/{rpc}") for line in self._log.lines("rpc"))


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest) -> str:
    """Each database."""
    return str(request.param)


@pytest.fixture
def log() -> Iterator[CapturedLog]:
    """What both services write."""
    with captured_log() as log:
        yield log


@pytest.fixture
def lines(
    checkouts: Checkouts, database: str, seed: int, figures: Figures, log: CapturedLog
) -> Iterator[Lines]:
    """A checkout behind lines that break, and a replica of its order service that does the work.

    Nothing but the callers' requests travels on the lines, so that what is held is known.
    """
    with (
        breakable(checkouts, database, seed=seed, order_background_work=False) as lines,
        replica(lines.checkout),
    ):
        yield lines
        lines.check(figures)


@contextmanager
def replica(checkout: Checkout) -> Iterator[None]:
    """Run another order service over the same database, with workers and a line of its own."""
    changes = {"background_work": True, "payment_target": checkout.payment_server.address}
    settings = checkout.order_settings.model_copy(update=changes)
    server = order_service.bootstrap.build(settings, clock=checkout.clock)
    server.start()
    try:
        yield
    finally:
        server.stop()


@pytest.fixture
def late(lines: Lines, log: CapturedLog, figures: Figures, database: str) -> LateRequests:
    """Holds and delivers; counts runs: one order through one request that is late."""
    return LateRequests(lines, log, lambda runs: figures.add(f"proxy runs, {database}", runs))


def is_busy(lines: Lines, order_id: str) -> bool:
    """Say whether an operation is in flight on the order."""
    return lines.checkout.order(order_id).HasField("pending_operation")


def left_behind(lines: Lines, order_id: str) -> None:
    """Let the order's operation become old, and wait until a worker has settled it."""
    assert is_busy(lines, order_id)
    lines.checkout.clock.move(ABANDONED)
    wait_until(lambda: not is_busy(lines, order_id))


def pay(order_id: str) -> Request:
    """Build a PayOrder request."""
    return ask("PayOrder", ALICE, order_id=order_id, payment_token="tok_visa")


def cancel(order_id: str) -> Request:
    """Build a CancelOrder request."""
    return ask("CancelOrder", ALICE, order_id=order_id)


class TestAChargeThatIsLate:
    def test_is_void_once_it_was_asked_for(self, lines: Lines, late: LateRequests) -> None:
        for then in [pay, cancel, None] * RUNS:
            order_id = placed(lines)
            late.hold(pay(order_id), line=SERVICES)
            # A worker asks what became of the charge, which has not arrived: so it never will.
            left_behind(lines, order_id)
            late.deliver("ProcessPayment", line=SERVICES)
            assert lines.checkout.ledger.charges(order_id) == []
            if then:
                lines.answered(then(order_id))

    def test_is_void_once_the_order_was_given_up(self, lines: Lines, late: LateRequests) -> None:
        for _ in range(RUNS):
            order_id = placed(lines)
            late.hold(pay(order_id), line=SERVICES)
            lines.checkout.clock.move(ABANDONED)
            lines.answered(cancel(order_id))
            late.deliver("ProcessPayment", line=SERVICES)
            assert lines.checkout.ledger.charges(order_id) == []

    def test_is_void_once_another_was_made(self, lines: Lines, late: LateRequests) -> None:
        for _ in range(RUNS):
            order_id = placed(lines)
            late.hold(pay(order_id), line=SERVICES)
            left_behind(lines, order_id)
            lines.answered(pay(order_id))
            late.deliver("ProcessPayment", line=SERVICES)
            assert lines.checkout.ledger.charges(order_id) == [TOTAL]

    def test_is_a_repeat_if_its_caller_sent_it_again(
        self, lines: Lines, late: LateRequests
    ) -> None:
        for _ in range(RUNS):
            order_id = placed(lines)
            request = pay(order_id)
            late.hold(request, line=SERVICES)
            lines.answered(request)
            late.deliver("ProcessPayment", line=SERVICES)
            assert lines.checkout.ledger.charges(order_id) == [TOTAL]


class TestADirectPaymentThatIsLate:
    def test_is_void_once_the_order_was_given_up(self, lines: Lines, late: LateRequests) -> None:
        for _ in range(RUNS):
            order_id = placed(lines)
            late.hold(process_payment(lines, order_id), line=DIRECT)
            lines.answered(cancel(order_id))
            late.deliver("ProcessPayment", line=DIRECT)
            assert lines.checkout.ledger.charges(order_id) == []

    def test_is_void_once_the_order_was_paid(self, lines: Lines, late: LateRequests) -> None:
        for _ in range(RUNS):
            order_id = placed(lines)
            late.hold(process_payment(lines, order_id), line=DIRECT)
            lines.answered(pay(order_id))
            late.deliver("ProcessPayment", line=DIRECT)
            assert lines.checkout.ledger.charges(order_id) == [TOTAL]

    def test_pays_for_the_order_if_nobody_was_faster(
        self, lines: Lines, late: LateRequests
    ) -> None:
        """Its caller never hears of it; the order is paid all the same."""
        for _ in range(RUNS):
            order_id = placed(lines)
            late.hold(process_payment(lines, order_id), line=DIRECT)
            late.deliver("ProcessPayment", line=DIRECT)
            assert lines.checkout.ledger.charges(order_id) == [TOTAL]


class TestASealThatIsLate:
    def test_changes_nothing_once_a_worker_has_sealed(
        self, lines: Lines, late: LateRequests
    ) -> None:
        for _ in range(RUNS):
            order_id = placed(lines)
            late.hold(cancel(order_id), line=SERVICES)
            left_behind(lines, order_id)
            late.deliver("SealOrder", line=SERVICES)
            assert lines.checkout.ledger.charges(order_id) == []

    def test_does_not_take_an_order_from_a_payment_that_was_faster(
        self, lines: Lines, late: LateRequests
    ) -> None:
        """The order is sealed and paid: that somebody wanted to give it up comes too late."""
        for _ in range(RUNS):
            order_id = placed(lines)
            late.hold(cancel(order_id), line=SERVICES)
            lines.answered(process_payment(lines, order_id))
            late.deliver("SealOrder", line=SERVICES)
            left_behind(lines, order_id)
            assert lines.checkout.ledger.charges(order_id) == [TOTAL]


class TestARefundThatIsLate:
    def test_gives_nothing_back_once_a_worker_has(self, lines: Lines, late: LateRequests) -> None:
        for _ in range(RUNS):
            order_id = paid(lines)
            late.hold(ask("RefundOrder", OPERATIONS, order_id=order_id), line=SERVICES)
            left_behind(lines, order_id)
            late.deliver("RefundPayment", line=SERVICES)
            assert lines.checkout.ledger.refunds(order_id) == [TOTAL]

    def test_is_no_longer_told_of_by_who_began_it(self, lines: Lines, late: LateRequests) -> None:
        """Another process has written its outcome down, whatever this one remembers."""
        for _ in range(RUNS):
            order_id = paid(lines)
            payment_id = lines.checkout.order(order_id).payment_transaction_id
            with tried_without_locks(1.0):
                late.hold(ask("RefundOrder", OPERATIONS, order_id=order_id), line=SERVICES)
                left_behind(lines, order_id)
                again = ask("MarkOrderPaid", ALICE, order_id=order_id, transaction_id=payment_id)
                told = lines.answered(again).outcome
            assert isinstance(told, Answered)
            assert told.order
            assert told.order.status == "refunded"
            late.deliver("RefundPayment", line=SERVICES)


class TestARequestOfACaller:
    """It arrives when its caller has sent it again and gone on."""

    def test_to_pay_is_a_repeat(self, lines: Lines, late: LateRequests) -> None:
        for _ in range(RUNS):
            order_id = placed(lines)
            request = pay(order_id)
            late.hold(request, line=CALLERS)
            lines.answered(request)
            lines.answered(ask("RefundOrder", OPERATIONS, order_id=order_id))
            late.deliver("PayOrder", line=CALLERS)
            assert lines.checkout.ledger.charges(order_id) == [TOTAL]

    def test_to_place_an_order_is_a_repeat(self, lines: Lines, late: LateRequests) -> None:
        order_id = placed(lines)
        items = lines.checkout.order(order_id).items
        for _ in range(RUNS):
            request = ask(
                "CreateOrder",
                ALICE,
                items=[
                    {
                        "sku": i.sku,
                        "name": i.name,
                        "quantity": i.quantity,
                        "unit_price": i.unit_price,
                    }
                    for i in items
                ],
            )
            late.hold(request, line=CALLERS)
            first = lines.answered(request).outcome
            late.deliver("CreateOrder", line=CALLERS)
            assert isinstance(first, Answered)
            again = lines.answered(request).outcome
            assert isinstance(again, Answered)
            assert again.order == first.order

    def test_to_give_up_an_order_that_is_paid_meanwhile_is_refused(
        self, lines: Lines, late: LateRequests
    ) -> None:
        for _ in range(RUNS):
            order_id = placed(lines)
            late.hold(cancel(order_id), line=CALLERS)
            lines.answered(pay(order_id))
            late.deliver("CancelOrder", line=CALLERS)
            assert lines.checkout.order(order_id).payment_transaction_id

    def test_is_told_what_the_first_was_told(self, lines: Lines, late: LateRequests) -> None:
        """The order has gone on since; the answer has not."""
        for _ in range(RUNS):
            order_id = paid(lines)
            request = ask("FulfillOrder", OPERATIONS, order_id=order_id)
            late.hold(request, line=CALLERS)
            first = lines.answered(request).outcome
            lines.answered(ask("ArchiveOrder", OPERATIONS, order_id=order_id))
            late.deliver("FulfillOrder", line=CALLERS)
            again = lines.answered(request).outcome
            assert isinstance(first, Answered)
            assert isinstance(again, Answered)
            assert again.order == first.order

"""Calls against the work that nobody waits for: whoever writes first, it is written once."""

from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2
from tests.assertions import refused
from tests.builders import new_key
from tests.client import ALICE, OPERATIONS, SHOP, Answer
from tests.faults.background import APPLY, ASK_AGAIN, READ, SETTLE, run, run_dry, settle_everything
from tests.faults.facts import facts_of
from tests.faults.racing import Finish, Racecourse, Racer
from tests.system.simultaneously import final_outcome, reason_of

TOTAL = 4000
REFUSED = "invalid_transition_attempted"
# From this age on an operation counts as left behind.
LEFT_BEHIND = timedelta(seconds=6)


def worker(course: Racecourse, name: str) -> Racer:
    return partial(run, course.checkout, name)


def trace_of(course: Racecourse, order_id: str, event: str) -> str:
    """The trace under which something happened to an order's payment: whose it was."""
    entries = course.checkout.payment_history(order_id)
    [found] = [entry.trace_id for entry in entries if entry.event_type == event]
    return found


def unanswered(course: Racecourse, rpc: str, order: order_pb2.Order, **fields: Any) -> Racer:
    """A call that recorded its operation and got no answer from the gateway; to be sent again."""
    client = course.checkout.orders(OPERATIONS if rpc == "RefundOrder" else ALICE)
    call = partial(client.answer, rpc, order_id=order.id, idempotency_key=new_key(), **fields)
    with refused(grpc.StatusCode.UNAVAILABLE, "PAYMENT_OUTCOME_UNKNOWN"):
        call()
    return call


@pytest.fixture(autouse=True)
def nothing_else_to_do(course: Racecourse) -> None:
    """The workers meet the race's own order, and none from before it."""
    settle_everything(course.checkout)


def in_the_inbox(course: Racecourse) -> tuple[order_pb2.Order, str]:
    """An order with a payment that the order service has read of and not applied."""
    order = course.checkout.place()
    payment = course.checkout.process(order)
    run_dry(course.checkout, READ)
    return order, payment.id


def who_paid(course: Racecourse, order: order_pb2.Order) -> str:
    [paid] = [e for e in course.checkout.history(order.id) if e.event_type == "order_paid"]
    return "worker" if paid.actor_id == "order-service" else "call"


def has_begun_anything(course: Racecourse, order: order_pb2.Order) -> bool:
    [facts] = facts_of(course.checkout, [order.id]).values()
    return bool(facts.operations)


class TestTheInbox:
    def test_leaves_a_payment_to_the_operation_that_made_it(self, course: Racecourse) -> None:
        """No race: the operation that is in flight has to say what became of its own key."""
        order = course.checkout.place()
        pay = unanswered(course, "PayOrder", order, payment_token="tok_timeoutAfterCharge")
        course.checkout.clock.move(LEFT_BEHIND)
        for name in (*ASK_AGAIN, READ, APPLY):
            run_dry(course.checkout, name)
        assert facts_of(course.checkout, [order.id])[order.id].status == "created"
        assert isinstance(final_outcome(pay), Answer)
        assert who_paid(course, order) == "call"

    def test_mark_paid_against_the_inbox(self, course: Racecourse) -> None:
        def race() -> Finish:
            order, payment_id = in_the_inbox(course)
            mark = partial(
                course.checkout.orders(SHOP).answer,
                "MarkOrderPaid",
                order_id=order.id,
                transaction_id=payment_id,
                idempotency_key=new_key(),
            )
            outcomes = course.released(mark, worker(course, APPLY))
            assert reason_of(course.settled([mark], outcomes[:1])[0]) == "OK"
            return Finish(
                order.id,
                won=who_paid(course, order),
                status="paid",
                events=["order_created", "order_paid"],
                charges=[TOTAL],
            )

        course.run("mark paid x inbox", race, rounds=150, ways=["call", "worker"])

    def test_pay_against_the_feed(self, course: Racecourse) -> None:
        """The order is paid directly: what PayOrder begins comes to nothing, and hides nothing."""

        def race() -> Finish:
            order = course.checkout.place()
            course.checkout.process(order)
            pay = partial(
                course.checkout.orders().answer,
                "PayOrder",
                order_id=order.id,
                payment_token="tok_visa",
                idempotency_key=new_key(),
            )
            outcome, _ = course.released(pay, worker(course, READ))
            assert reason_of(outcome) == "PAYMENT_IN_PROGRESS"
            return Finish(
                order.id,
                won="feed" if not has_begun_anything(course, order) else "call",
                status="paid",
                events=["order_created", "order_paid"],
                charges=[TOTAL],
            )

        course.run("pay x feed", race, rounds=150, ways=["call", "feed"])

    def test_cancel_against_the_inbox(self, course: Racecourse) -> None:
        def race() -> Finish:
            order, _ = in_the_inbox(course)
            cancel = partial(
                course.checkout.orders().answer,
                "CancelOrder",
                order_id=order.id,
                idempotency_key=new_key(),
            )
            outcomes = course.released(cancel, worker(course, APPLY))
            assert reason_of(course.settled([cancel], outcomes[:1])[0]) == "INVALID_TRANSITION"
            return Finish(
                order.id,
                won=who_paid(course, order),
                status="paid",
                events=["order_created", "order_paid", REFUSED],
                charges=[TOTAL],
            )

        course.run("cancel x inbox", race, rounds=100, ways=["call", "worker"])

    def test_two_readers_and_two_appliers(self, course: Racecourse) -> None:
        def race() -> Finish:
            order = course.checkout.place()
            course.checkout.process(order)
            course.released(worker(course, READ), worker(course, READ))
            racers = [worker(course, APPLY), worker(course, APPLY), worker(course, READ)]
            found = course.released(*racers)
            return Finish(
                order.id,
                won="one" if found[0] else "the other",
                status="paid",
                events=["order_created", "order_paid"],
                charges=[TOTAL],
            )

        course.run("applier x applier", race, rounds=100, ways=["one", "the other"])


class TestOperationsLeftBehind:
    """The worker settles what the repeated call, too, is about to settle."""

    @pytest.mark.parametrize("token", ["tok_timeoutBeforeCharge", "tok_timeoutAfterCharge"])
    def test_a_repeated_pay_against_the_worker(self, course: Racecourse, token: str) -> None:
        def race() -> Finish:
            order = course.checkout.place()
            pay = unanswered(course, "PayOrder", order, payment_token=token)
            return self.settle(course, order, pay, ["order_paid"], "payment")

        ways = ["call", "worker"]
        course.run("repeated pay x settling worker", race, rounds=70, ways=ways)

    def test_a_repeated_refund_against_the_worker(self, course: Racecourse) -> None:
        def race() -> Finish:
            order = course.checkout.paid("tok_refundTimeoutAfter")
            refund = unanswered(course, "RefundOrder", order)
            events = ["order_paid", "order_refunded"]
            return self.settle(course, order, refund, events, "refund")

        ways = ["call", "worker"]
        course.run("repeated refund x settling worker", race, rounds=80, ways=ways)

    def settle(
        self,
        course: Racecourse,
        order: order_pb2.Order,
        call: Racer,
        events: list[str],
        what: str,
    ) -> Finish:
        course.checkout.clock.move(LEFT_BEHIND)
        outcomes = course.released(call, worker(course, SETTLE))
        [answer] = course.settled([call], outcomes[:1])
        assert isinstance(answer, Answer), reason_of(answer)
        assert answer.body == call().body
        first, settled = (
            trace_of(course, order.id, f"{what}_{event}") for event in ("requested", "succeeded")
        )
        refunded = what == "refund"
        return Finish(
            order.id,
            # The worker goes on under the trace of the call that began.
            won="worker" if settled == first else "call",
            status="refunded" if refunded else "paid",
            events=["order_created", *events],
            charges=[TOTAL],
            refunds=[TOTAL] * refunded,
        )

    def test_two_workers_and_a_call_that_meets_the_operation(self, course: Racecourse) -> None:
        def race() -> Finish:
            order = course.checkout.place()
            pay = unanswered(course, "PayOrder", order, payment_token="tok_timeoutAfterCharge")
            course.checkout.clock.move(LEFT_BEHIND)
            cancel = partial(
                course.checkout.orders(SHOP).answer,
                "CancelOrder",
                order_id=order.id,
                idempotency_key=new_key(),
            )
            settle = worker(course, SETTLE)
            outcomes = course.released(cancel, settle, settle)
            cancelled, paid = course.settled([cancel, pay], [outcomes[0], pay()])
            assert reason_of(cancelled) == "INVALID_TRANSITION"
            assert isinstance(paid, Answer)
            assert paid.replayed
            first, settled = (
                trace_of(course, order.id, f"payment_{event}")
                for event in ("requested", "succeeded")
            )
            return Finish(
                order.id,
                won="worker" if settled == first else "call",
                status="paid",
                events=["order_created", "order_paid", REFUSED],
                charges=[TOTAL],
            )

        ways = ["call", "worker"]
        course.run("cancel x two settling workers", race, rounds=80, ways=ways)


class TestPaymentsLeftBehind:
    @pytest.mark.parametrize("token", ["tok_timeoutBeforeCharge", "tok_timeoutAfterCharge"])
    def test_a_repeated_payment_against_the_worker_that_asks_again(
        self, course: Racecourse, token: str
    ) -> None:
        def race() -> Finish:
            order = course.checkout.place()
            process = partial(
                course.checkout.payments().answer,
                "ProcessPayment",
                idempotency_key=new_key(),
                payment_ticket=order.payment_ticket,
                payment_token=token,
            )
            process()
            # The worker's next try is due.
            course.checkout.clock.move(LEFT_BEHIND)
            course.released(process, worker(course, ASK_AGAIN[0]))
            entries = course.checkout.payment_history(order.id)
            [actor] = [e.actor_id for e in entries if e.event_type == "payment_succeeded"]
            return Finish(
                order.id,
                won="worker" if actor == "payment-service" else "call",
                status="paid",
                events=["order_created", "order_paid"],
                charges=[TOTAL],
            )

        ways = ["call", "worker"]
        course.run("repeated payment x asking worker", race, rounds=100, ways=ways)

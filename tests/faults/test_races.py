"""Calls about one order at the same instant: one wins, all are told the truth, money moves once."""

from functools import partial
from typing import Any

import pytest

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from tests.builders import money, new_key, new_order_items
from tests.client import ALICE, OPERATIONS, SHOP, Answer
from tests.faults.racing import RACERS_MAX, Finish, Racecourse, Racer
from tests.system.keyed_calls import KEYED_CALLS
from tests.system.simultaneously import Outcome, is_transient, reason_of, reply_bytes

TOTAL = 4000
REFUSED = "invalid_transition_attempted"


def racer(course: Racecourse, rpc: str, order: order_pb2.Order, **fields: Any) -> Racer:
    """A call about an order that can be sent again with its key."""
    caller = {"RefundOrder": OPERATIONS, "FulfillOrder": SHOP, "ArchiveOrder": SHOP}.get(rpc, ALICE)
    client = course.checkout.orders(caller)
    return partial(client.answer, rpc, order_id=order.id, idempotency_key=new_key(), **fields)


def pay(course: Racecourse, order: order_pb2.Order, token: str = "tok_visa") -> Racer:
    return racer(course, "PayOrder", order, payment_token=token)


def process(course: Racecourse, order: order_pb2.Order, token: str = "tok_visa") -> Racer:
    """A payment without the order service, that can be sent again likewise."""
    return partial(
        course.checkout.payments().answer,
        "ProcessPayment",
        idempotency_key=new_key(),
        payment_ticket=order.payment_ticket,
        payment_token=token,
    )


def told(outcomes: list[Outcome]) -> list[str]:
    return [reason_of(outcome) for outcome in outcomes]


def expect_first_answers(outcomes: list[Outcome], *declared: str) -> None:
    """Whoever lost while the winner was under way is told so, and nothing else."""
    assert set(told(outcomes)) <= {"OK", "INVALID_TRANSITION", "CONCURRENT_UPDATE", *declared}


class TestPayAndCancel:
    def test_pay_against_cancel_against_pay(self, course: Racecourse) -> None:
        def race() -> Finish:
            order = course.checkout.place()
            racers = [pay(course, order), racer(course, "CancelOrder", order), pay(course, order)]
            first = course.released(*racers)
            expect_first_answers(first, "PAYMENT_IN_PROGRESS")
            final = told(course.settled(racers, first))
            assert sorted(final) == ["INVALID_TRANSITION", "INVALID_TRANSITION", "OK"]
            if final[1] == "OK":
                return Finish(
                    order.id,
                    won="cancel",
                    status="cancelled",
                    events=["order_created", "order_cancelled", REFUSED, REFUSED],
                )
            return Finish(
                order.id,
                won="one pay" if final[0] == "OK" else "the other pay",
                status="paid",
                events=["order_created", "order_paid", REFUSED, REFUSED],
                charges=[TOTAL],
            )

        ways = ["cancel", "one pay", "the other pay"]
        course.run("pay x cancel x pay", race, rounds=250, ways=ways)

    def test_a_declined_pay_against_cancel(self, course: Racecourse) -> None:
        def race() -> Finish:
            order = course.checkout.place()
            racers = [
                pay(course, order, "tok_chargeDeclined"),
                racer(course, "CancelOrder", order),
            ]
            first = course.released(*racers)
            expect_first_answers(first, "PAYMENT_DECLINED", "PAYMENT_IN_PROGRESS")
            paid, cancelled = told(course.settled(racers, first))
            assert cancelled == "OK"
            assert paid in {"PAYMENT_DECLINED", "INVALID_TRANSITION"}
            declined = paid == "PAYMENT_DECLINED"
            return Finish(
                order.id,
                won="pay" if declined else "cancel",
                status="cancelled",
                events=[
                    "order_created",
                    "payment_failed" if declined else REFUSED,
                    "order_cancelled",
                ],
            )

        course.run("declined pay x cancel", race, rounds=100, ways=["pay", "cancel"])

    def test_a_direct_payment_against_cancel(self, course: Racecourse) -> None:
        def race() -> Finish:
            order = course.checkout.place()
            racers = [process(course, order), racer(course, "CancelOrder", order)]
            first = course.released(*racers)
            expect_first_answers(first, "PAYMENT_OUTCOME_UNKNOWN")
            processed, cancelled = course.settled(racers, first)
            assert isinstance(processed, Answer)
            if reason_of(cancelled) == "OK":
                reason = processed.message.payment.void_reason
                assert reason == payment_pb2.VOID_REASON_ORDER_SEALED
                events = ["order_created", "order_cancelled"]
                return Finish(order.id, won="cancel", status="cancelled", events=events)
            assert reason_of(cancelled) == "INVALID_TRANSITION"
            payment = course.checkout.payment(processed.message.payment.id)
            assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
            return Finish(
                order.id,
                won="payment",
                status="paid",
                events=["order_created", "order_paid", REFUSED],
                charges=[TOTAL],
            )

        course.run("payment x cancel", race, rounds=250, ways=["payment", "cancel"])


class TestPayAndOtherPayments:
    def test_mark_paid_against_pay(self, course: Racecourse) -> None:
        def race() -> Finish:
            order = course.checkout.place()
            payment = course.checkout.process(order)
            mark = racer(course, "MarkOrderPaid", order, transaction_id=payment.id)
            racers = [mark, pay(course, order)]
            first = course.released(*racers)
            expect_first_answers(first, "PAYMENT_IN_PROGRESS")
            assert told(course.settled(racers, first)) == ["OK", "INVALID_TRANSITION"]
            return Finish(
                order.id,
                # A pay that came first has asked in vain and given way.
                won="pay" if is_transient(first[1]) else "mark paid",
                status="paid",
                events=["order_created", "order_paid", REFUSED],
                charges=[TOTAL],
            )

        course.run("mark paid x pay", race, rounds=120, ways=["pay", "mark paid"])

    def test_pay_against_a_direct_payment(self, course: Racecourse) -> None:
        def race() -> Finish:
            order = course.checkout.place()
            first = course.released(pay(course, order), process(course, order, "tok_amex"))
            expect_first_answers(first, "PAYMENT_IN_PROGRESS")
            paid, processed = first
            assert isinstance(processed, Answer)
            payment = processed.message.payment
            if reason_of(paid) == "OK":
                reason = payment.void_reason
                assert reason == payment_pb2.VOID_REASON_ANOTHER_PAYMENT_IS_LIVE
            else:
                assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
            return Finish(
                order.id,
                won="pay" if reason_of(paid) == "OK" else "payment",
                # If need be the history of payments tells the order.
                status="paid",
                events=["order_created", "order_paid"],
                charges=[TOTAL],
            )

        course.run("pay x payment", race, rounds=150, ways=["pay", "payment"])

    def test_eight_keys_for_the_same_order(self, course: Racecourse) -> None:
        def race() -> Finish:
            order = course.checkout.place()
            racers = [pay(course, order) for _ in range(RACERS_MAX)]
            first = course.released(*racers)
            expect_first_answers(first, "PAYMENT_IN_PROGRESS")
            final = told(course.settled(racers, first))
            assert sorted(final) == ["INVALID_TRANSITION"] * (RACERS_MAX - 1) + ["OK"]
            return Finish(
                order.id,
                won="an even one" if final.index("OK") % 2 == 0 else "an odd one",
                status="paid",
                events=["order_created", "order_paid", *[REFUSED] * (RACERS_MAX - 1)],
                charges=[TOTAL],
            )

        ways = ["an even one", "an odd one"]
        course.run("pay with 8 keys", race, rounds=60, ways=ways)


class TestRefunds:
    def test_refund_against_fulfil(self, course: Racecourse) -> None:
        def race() -> Finish:
            order = course.checkout.paid()
            racers = [
                racer(course, "RefundOrder", order),
                racer(course, "FulfillOrder", order),
            ]
            first = course.released(*racers)
            expect_first_answers(first, "REFUND_IN_PROGRESS")
            final = told(course.settled(racers, first))
            assert sorted(final) == ["INVALID_TRANSITION", "OK"]
            refunded = final[0] == "OK"
            return Finish(
                order.id,
                won="refund" if refunded else "fulfil",
                status="refunded" if refunded else "fulfilled",
                events=[
                    "order_created",
                    "order_paid",
                    "order_refunded" if refunded else "order_fulfilled",
                    REFUSED,
                ],
                charges=[TOTAL],
                refunds=[TOTAL] if refunded else [],
            )

        course.run("refund x fulfil", race, rounds=150, ways=["refund", "fulfil"])

    def test_eight_partial_refunds(self, course: Racecourse) -> None:
        amounts = [2500, 2000, 1500, 1000, 700, 500, 300, 200]

        def race() -> Finish:
            order = course.checkout.paid()
            racers = [
                racer(course, "RefundOrder", order, amount=money(amount)) for amount in amounts
            ]
            first = course.released(*racers)
            expect_first_answers(first, "REFUND_IN_PROGRESS", "REFUND_EXCEEDS_PAYMENT")
            final = dict(zip(amounts, told(course.settled(racers, first)), strict=True))
            back = [amount for amount, reason in final.items() if reason == "OK"]
            left = TOTAL - sum(back)
            refused = [amount for amount, reason in final.items() if reason != "OK"]
            assert left >= 0
            assert all(amount > left for amount in refused)
            if left:
                assert {final[amount] for amount in refused} == {"REFUND_EXCEEDS_PAYMENT"}
            events = {"REFUND_EXCEEDS_PAYMENT": "refund_refused", "INVALID_TRANSITION": REFUSED}
            changes = ["order_partially_refunded"] * len(back)
            if not left:
                changes[-1] = "order_refunded"
            return Finish(
                order.id,
                won="the biggest" if amounts[0] in back else "others",
                status="paid" if left else "refunded",
                events=[
                    "order_created",
                    "order_paid",
                    *changes,
                    *(events[final[amount]] for amount in refused),
                ],
                charges=[TOTAL],
                refunds=back,
            )

        course.run("8 refunds", race, rounds=60, ways=["the biggest", "others"])


class TestTheSameChangeTwice:
    @pytest.mark.parametrize(
        ("rpc", "status", "event"),
        [
            ("CancelOrder", "cancelled", "order_cancelled"),
            ("FulfillOrder", "fulfilled", "order_fulfilled"),
        ],
    )
    def test_with_two_keys_happens_once(
        self, course: Racecourse, rpc: str, status: str, event: str
    ) -> None:
        paid = rpc == "FulfillOrder"

        def race() -> Finish:
            order = course.checkout.paid() if paid else course.checkout.place()
            racers = [racer(course, rpc, order), racer(course, rpc, order)]
            first = course.released(*racers)
            expect_first_answers(first, "PAYMENT_IN_PROGRESS")
            final = told(course.settled(racers, first))
            assert sorted(final) == ["INVALID_TRANSITION", "OK"]
            return Finish(
                order.id,
                won="one" if final[0] == "OK" else "the other",
                status=status,
                events=["order_created", *["order_paid"] * paid, event, REFUSED],
                charges=[TOTAL] * paid,
            )

        course.run(f"{rpc} x {rpc}", race, rounds=60, ways=["one", "the other"])


class TestTheSameKeyEightTimes:
    """One execution; whoever gets the final reply gets the same bytes."""

    @pytest.mark.parametrize(
        ("rpc", "status", "events"),
        [
            ("CreateOrder", "created", []),
            ("PayOrder", "paid", ["order_paid"]),
            ("MarkOrderPaid", "paid", ["order_paid"]),
            ("CancelOrder", "cancelled", ["order_cancelled"]),
            ("FulfillOrder", "fulfilled", ["order_paid", "order_fulfilled"]),
            ("RefundOrder", "paid", ["order_paid", "order_partially_refunded"]),
        ],
    )
    def test_happens_once(
        self, course: Racecourse, rpc: str, status: str, events: list[str]
    ) -> None:
        def race() -> Finish:
            racers = [KEYED_CALLS[rpc](course.checkout)] * RACERS_MAX
            first = course.released(*racers)
            assert set(told(first)) <= {"OK", "REQUEST_IN_PROGRESS", "CONCURRENT_UPDATE"}
            final = course.settled(racers, first)
            assert set(told(final)) == {"OK"}
            assert len({reply_bytes(outcome) for outcome in final}) == 1
            # The one that executed is the one that is not called a repeat.
            [winner] = [
                number
                for number, outcome in enumerate(first)
                if isinstance(outcome, Answer) and not outcome.replayed
            ]
            answer = final[winner]
            assert isinstance(answer, Answer)
            return Finish(
                answer.message.order.id,
                won="an even one" if winner % 2 == 0 else "an odd one",
                status=status,
                events=["order_created", *events],
                charges=[TOTAL] * ("order_paid" in events),
                refunds=[1000] * (rpc == "RefundOrder"),
            )

        rounds = 200 if rpc == "CreateOrder" else 40
        ways = ["an even one", "an odd one"]
        course.run(f"8 x {rpc}, same key", race, rounds=rounds, ways=ways)


def test_creating_with_the_same_key_and_other_items_places_one_of_the_two(
    course: Racecourse,
) -> None:
    def race() -> Finish:
        key = new_key()
        create = partial(course.checkout.orders().answer, "CreateOrder", idempotency_key=key)
        racers = [partial(create, items=new_order_items(total)) for total in (TOTAL, TOTAL + 1)]
        first = course.released(*racers)
        final = course.settled(racers, first)
        assert sorted(told(final)) == ["IDEMPOTENCY_KEY_REUSED", "OK"]
        [placed] = [outcome for outcome in final if isinstance(outcome, Answer)]
        return Finish(
            placed.message.order.id,
            won="one" if final[0] is placed else "the other",
            status="created",
            events=["order_created"],
        )

    course.run("create x create, same key", race, rounds=600, ways=["one", "the other"])

"""Calls to the payment service at the same instant, as the order service makes them."""

from functools import partial

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from tests.builders import new_key
from tests.client import ORDER_SERVICE, Answer, Client
from tests.faults.racing import RACERS_MAX, Finish, Racecourse, Racer
from tests.system.simultaneously import Outcome, reason_of, reply_bytes

TOTAL = 4000
PENDING = payment_pb2.PAYMENT_STATUS_PENDING
SUCCEEDED = payment_pb2.PAYMENT_STATUS_SUCCEEDED
FAILED = payment_pb2.PAYMENT_STATUS_FAILED
VOIDED = payment_pb2.PAYMENT_STATUS_VOIDED
# Whom the history of payments tells the order of one that it did not ask for.
TOLD = ("order_created", "order_paid")


def as_order_service(course: Racecourse) -> Client:
    return course.checkout.payments(ORDER_SERVICE)


def process(
    course: Racecourse, order: order_pb2.Order, *, key: str = "", token: str = "tok_visa"
) -> Racer:
    return partial(
        as_order_service(course).answer,
        "ProcessPayment",
        idempotency_key=key or new_key(),
        payment_ticket=order.payment_ticket,
        payment_token=token,
    )


def payment_of(outcome: Outcome) -> payment_pb2.Payment:
    assert isinstance(outcome, Answer), reason_of(outcome)
    payment: payment_pb2.Payment = outcome.message.payment
    return payment


def test_resolve_against_a_late_charge(course: Racecourse) -> None:
    def race() -> Finish:
        order, key = course.checkout.place(), new_key()
        charge = process(course, order, key=key)
        resolve = partial(
            as_order_service(course).answer,
            "ResolvePayment",
            order_id=order.id,
            payment_idempotency_key=key,
        )
        charged, resolved = (payment_of(o) for o in course.released(charge, resolve))
        assert charged.id == resolved.id
        assert resolved.status in {VOIDED, PENDING, SUCCEEDED}
        final, repeated = payment_of(resolve()), charge()
        assert repeated.replayed
        assert payment_of(repeated) == final
        if final.status == VOIDED:
            assert charged == final
            assert final.void_reason == payment_pb2.VOID_REASON_RESOLVED_BEFORE_ARRIVAL
            events = ["order_created"]
            return Finish(order.id, won="resolve", status="created", events=events)
        assert (final.status, charged.status) == (SUCCEEDED, SUCCEEDED)
        return Finish(order.id, won="charge", status="paid", events=TOLD, charges=[TOTAL])

    course.run("resolve x late charge", race, rounds=700, ways=["resolve", "charge"])


def test_seal_against_a_payment(course: Racecourse) -> None:
    tokens = ["tok_visa", "tok_visa", "tok_chargeDeclined"]

    def race() -> Finish:
        order, token = course.checkout.place(), course.random.choice(tokens)
        charge = process(course, order, token=token)
        seal = partial(as_order_service(course).answer, "SealOrder", order_id=order.id)
        first = course.released(charge, seal)
        charged = payment_of(first[0])
        if charged.status == VOIDED:
            assert charged.void_reason == payment_pb2.VOID_REASON_ORDER_SEALED
            for sealed in (first[1], seal()):
                assert isinstance(sealed, Answer)
                assert not sealed.message.HasField("payment")
            events = ["order_created"]
            return Finish(order.id, won="seal", status="created", events=events)
        after = seal().message
        if token == "tok_chargeDeclined":
            assert charged.status == FAILED
            assert not after.HasField("payment")
            events = ["order_created"]
            return Finish(order.id, won="payment", status="created", events=events)
        assert charged.status == SUCCEEDED
        assert after.payment == charged
        return Finish(order.id, won="payment", status="paid", events=TOLD, charges=[TOTAL])

    course.run("seal x payment", race, rounds=1000, ways=["seal", "payment"])


def test_two_payments_against_a_seal(course: Racecourse) -> None:
    def race() -> Finish:
        order = course.checkout.place()
        charges = [process(course, order), process(course, order, token="tok_amex")]
        seal = partial(as_order_service(course).answer, "SealOrder", order_id=order.id)
        one, other, _ = course.released(*charges, seal)
        statuses = [payment_of(one).status, payment_of(other).status]
        if statuses == [VOIDED, VOIDED]:
            events = ["order_created"]
            return Finish(order.id, won="seal", status="created", events=events)
        assert sorted(statuses) == [SUCCEEDED, VOIDED]
        won = "one payment" if statuses[0] == SUCCEEDED else "the other payment"
        return Finish(order.id, won=won, status="paid", events=TOLD, charges=[TOTAL])

    ways = ["seal", "one payment", "the other payment"]
    course.run("payment x payment x seal", race, rounds=300, ways=ways)


def test_the_same_key_eight_times(course: Racecourse) -> None:
    def race() -> Finish:
        order = course.checkout.place()
        racers = [process(course, order, key=new_key())] * RACERS_MAX
        outcomes = course.released(*racers)
        assert {payment_of(outcome).status for outcome in outcomes} <= {PENDING, SUCCEEDED}
        final = {reply_bytes(o) for o in outcomes if payment_of(o).status == SUCCEEDED}
        assert final == {racers[0]().body}
        # The one that asked the gateway is the one whose answer is neither pending nor a repeat.
        [winner] = [
            number
            for number, outcome in enumerate(outcomes)
            if isinstance(outcome, Answer)
            and payment_of(outcome).status == SUCCEEDED
            and not outcome.replayed
        ]
        won = "an even one" if winner % 2 == 0 else "an odd one"
        return Finish(order.id, won=won, status="paid", events=TOLD, charges=[TOTAL])

    ways = ["an even one", "an odd one"]
    course.run("8 x ProcessPayment, same key", race, rounds=100, ways=ways)

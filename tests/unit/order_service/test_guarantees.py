"""The guarantees alone: what breaks each of them, and what only looks as if it did."""

from dataclasses import replace
from datetime import timedelta

import grpc
import pytest

from order_service.verification import guarantees, histories, in_flight, money, replies
from order_service.verification.evidence import Evidence, KeyEvidence, Received, Seal
from order_service.verification.report import Report, Violation, Waiting
from service_kit.status import build_status
from tests.unit.order_service.evidence import (
    NOW,
    THEN,
    TOTAL,
    a_charge,
    a_key,
    a_payment,
    a_payment_entry,
    a_refund,
    a_reply,
    an_entry,
    an_operation,
    an_order,
    evidence,
    given_back,
    key_evidence,
)
from tests.unit.order_service.evidence import (
    in_flight as op_in_flight,
)

pytestmark = pytest.mark.requirement("FR-247")

SETTLED = "settled_by_operator"
REFUND_OPERATION = an_operation(
    id="op_2", kind="refund", amount_minor=1000, idempotency_key="key-2"
)


def of_order(found: Evidence) -> set[str]:
    """The guarantees that the evidence breaks, those of keys aside."""
    return {violation.guarantee for violation in guarantees.of_order(found)}


def of_key(found: KeyEvidence) -> set[str]:
    return {violation.guarantee for violation in guarantees.of_key(found)}


def refusal(reason: str, **facts: str) -> bytes:
    status = build_status(
        grpc.StatusCode.FAILED_PRECONDITION, reason=reason, message="", metadata=facts
    )
    return status.SerializeToString()


def partly_refunded(**fields: object) -> Evidence:
    """A quarter is back, in every book."""
    given: dict[str, object] = {
        "order": an_order(refunded_minor=1000),
        "operations": (an_operation(), REFUND_OPERATION),
        "payments": (a_payment(refunded_minor=1000),),
        "refunds": (a_refund(),),
        "given_back": (given_back(),),
    }
    return evidence(**{**given, **fields})


class TestNothing:
    def test_is_wrong_with_an_order_whose_books_agree(self) -> None:
        assert list(guarantees.of_order(evidence())) == []
        assert list(guarantees.of_key(key_evidence())) == []

    def test_is_known_of_an_order_that_does_not_exist(self) -> None:
        assert list(guarantees.of_order(Evidence(order_id="ord_1", now=NOW))) == []


class TestTheLedger:
    def test_may_not_know_what_an_operator_settled(self) -> None:
        settled = a_payment_entry(
            2,
            "payment_succeeded",
            from_status="pending",
            to_status="succeeded",
            reason=SETTLED,
        )
        entries = (a_payment_entry(1, "payment_requested"), settled)

        assert of_order(evidence(charges=())) == {"I1"}
        assert of_order(evidence(charges=(), payment_entries=entries)) == set()

    def test_may_know_more_than_a_pending_payment(self) -> None:
        found = evidence(payments=(a_payment(status="pending", gateway_reference=None),))
        assert list(money.charges_are_payments(found)) == []

    @pytest.mark.parametrize("status", ["failed", "voided"])
    def test_knows_nothing_of_a_payment_that_took_no_money(self, status: str) -> None:
        [told] = money.charges_are_payments(
            evidence(payments=(a_payment(status=status, gateway_reference=None),))
        )
        assert "pay_1" in told

    def test_lists_declined_charges_that_took_nothing(self) -> None:
        declined = a_charge(key="pay_0", reference="ch_0", decline_code="card_declined")
        assert of_order(evidence(charges=(a_charge(), declined))) == set()


class TestAPaidOrder:
    @pytest.mark.parametrize("status", ["paid", "fulfilled", "refunded", "archived"])
    def test_has_one_succeeded_payment(self, status: str) -> None:
        [told] = money.paid_by_its_payment(evidence(order=an_order(status=status), payments=()))
        assert "found none" in told

    @pytest.mark.parametrize("status", ["created", "cancelled"])
    def test_is_the_only_one_with_a_payment(self, status: str) -> None:
        [told] = money.paid_by_its_payment(evidence(order=an_order(status=status)))
        assert "pay_1" in told

    @pytest.mark.parametrize(
        "fields", [{"amount_minor": 1}, {"currency_code": "USD"}, {"customer_id": "bob"}]
    )
    def test_is_what_its_payment_is_of(self, fields: dict[str, object]) -> None:
        [told] = money.paid_by_its_payment(evidence(payments=(a_payment(**fields),)))
        assert "pay_1" in told

    @pytest.mark.parametrize("ended", ["succeeded", "failed", "voided"])
    def test_was_charged_as_its_operation_ended(self, ended: str) -> None:
        found = evidence(operations=(an_operation(status=ended),))
        told = list(money.charged_as_operations_ended(found))
        assert bool(told) == (ended != "succeeded")

    def test_may_be_charged_while_its_operation_does_not_know_yet(self) -> None:
        found = evidence(operations=(op_in_flight(),))
        assert list(money.charged_as_operations_ended(found)) == []

    def test_was_charged_under_its_operation(self) -> None:
        [told] = money.charged_as_operations_ended(
            evidence(payments=(a_payment(caller_role="customer"),))
        )
        assert "found its payment no payment" in told


class TestACancelledOrder:
    def cancelled(self, **fields: object) -> Evidence:
        order = an_order(status="cancelled", payment_id=None)
        seal = Seal("ord_1", THEN)
        return evidence(**{"order": order, "seal": seal, "payments": (), "charges": (), **fields})

    def test_is_sealed_and_has_no_money(self) -> None:
        assert list(money.cancelled_for_good(self.cancelled())) == []

    @pytest.mark.parametrize("status", ["succeeded", "pending"])
    def test_has_no_payment_that_may_take_any(self, status: str) -> None:
        found = self.cancelled(payments=(a_payment(status=status),))
        [told] = money.cancelled_for_good(found)
        assert "pay_1" in told

    @pytest.mark.parametrize("seal", [None, Seal("ord_1", None)])
    def test_is_not_so_without_its_seal(self, seal: Seal | None) -> None:
        [told] = money.cancelled_for_good(self.cancelled(seal=seal))
        assert "found no seal" in told


class TestMoneyGivenBack:
    def test_is_the_same_in_every_book(self) -> None:
        found = partly_refunded()
        for check in (
            money.all_books_give_back_the_same,
            money.refunds_stay_below_the_payment,
            money.refunds_are_in_the_ledger,
            money.refunded_as_operations_ended,
        ):
            assert list(check(found)) == []

    def test_may_be_on_its_way_through_the_books(self) -> None:
        under_way = replace(REFUND_OPERATION, status="in_flight", ended_at=None)
        operations = (an_operation(), under_way)
        pending = a_refund(status="pending", gateway_reference=None, reply=None, reply_ok=None)
        begun = partly_refunded(
            order=an_order(), operations=operations, payments=(a_payment(),), refunds=(pending,)
        )
        for found in (
            replace(begun, given_back=()),  # the gateway has not been asked
            begun,  # it has
            partly_refunded(order=an_order(), operations=operations),  # and the order not told
        ):
            assert "I6" not in of_order(found)

    def test_may_be_unknown_to_the_ledger_if_an_operator_settled_it(self) -> None:
        settled = a_payment_entry(3, "refund_succeeded", refund_id="ref_1", reason=SETTLED)
        found = partly_refunded(given_back=(), payment_entries=(settled,))
        assert list(money.refunds_are_in_the_ledger(found)) == []
        assert list(money.refunds_stay_below_the_payment(found)) == []

    def test_is_never_more_than_was_taken(self) -> None:
        refunds = tuple(
            a_refund(id=f"ref_{n}", gateway_reference=f"re_{n}", amount_minor=2500) for n in (1, 2)
        )
        found = partly_refunded(
            payments=(a_payment(refunded_minor=5000),), refunds=refunds, has_ledger=False
        )
        [told] = money.refunds_stay_below_the_payment(found)
        assert "at most 4000: found 5000" in told

    def test_comes_from_a_payment_that_succeeded(self) -> None:
        found = partly_refunded(payments=(a_payment(status="failed", gateway_reference=None),))
        assert any("ref_1" in told for told in money.refunds_stay_below_the_payment(found))

    def test_is_not_what_was_declined(self) -> None:
        declined = a_refund(status="failed", gateway_reference=None)
        [told] = money.refunds_are_in_the_ledger(partly_refunded(refunds=(declined,)))
        assert "ref_1 is failed" in told

    @pytest.mark.parametrize(
        "operation",
        [
            replace(REFUND_OPERATION, status="failed"),
            replace(REFUND_OPERATION, amount_minor=999),
            replace(REFUND_OPERATION, id="op_3"),
        ],
    )
    def test_is_what_its_operation_asked_for(self, operation: object) -> None:
        [told] = money.refunded_as_operations_ended(partly_refunded(operations=(operation,)))
        assert "refund operation op_" in told

    def test_is_all_of_it_exactly_if_the_order_is_refunded(self) -> None:
        for order in (
            an_order(status="refunded", refunded_minor=1000),
            an_order(status="fulfilled", refunded_minor=TOTAL),
        ):
            found = money.all_books_give_back_the_same(partly_refunded(order=order))
            assert any("refunded means all" in told for told in found)


class TestAHistory:
    @pytest.mark.parametrize(
        "entries",
        [
            (an_entry(2, "created", "paid"),),
            (an_entry(1, "", "created"), an_entry(2, "created", "fulfilled")),
            (an_entry(1, "", "created"), an_entry(2, "fulfilled", "paid")),
            (
                an_entry(1, "", "created"),
                an_entry(2, "created", "paid", event_type="order_created"),
            ),
            (an_entry(1, "", "paid"),),
        ],
    )
    def test_is_a_path_along_arrows(self, entries: tuple[object, ...]) -> None:
        assert list(histories.orders_move_along_arrows(evidence(entries=entries))) != []

    def test_tells_of_a_refusal_where_the_order_stood(self) -> None:
        entries = evidence().entries
        refused = {"outcome": "refused", "event_type": "invalid_transition_attempted"}
        right = an_entry(3, "paid", "paid", **refused)
        wrong = an_entry(3, "created", "created", **refused)

        found = histories.orders_move_along_arrows(evidence(entries=(*entries, right)))
        assert list(found) == []
        [told] = histories.orders_move_along_arrows(evidence(entries=(*entries, wrong)))
        assert "entry 3" in told

    def test_has_each_refund_once(self) -> None:
        entry = an_entry(3, "paid", "paid", event_type="order_partially_refunded")
        entries = (*evidence().entries, entry)

        assert list(histories.outcomes_have_their_entries(partly_refunded(entries=entries))) == []
        for wrong in (evidence().entries, (*entries, entry)):
            [told] = histories.outcomes_have_their_entries(partly_refunded(entries=wrong))
            assert "1 refunds" in told

    def test_of_payments_needs_a_row_for_what_it_tells_of(self) -> None:
        [told] = histories.payments_move_along_arrows(evidence(payments=()))
        assert "pay_1" in told

    def test_of_payments_has_no_second_end(self) -> None:
        entries = evidence().payment_entries
        again = (*entries, replace(entries[-1], sequence=3))
        [told] = histories.payments_move_along_arrows(evidence(payment_entries=again))
        assert "entry 3" in told

    def test_of_payments_tells_of_refused_refunds_without_beginning_one(self) -> None:
        refused = a_refund(status="failed", gateway_reference=None, reply_ok=False)
        entry = a_payment_entry(3, "refund_refused", outcome="refused")
        entries = (*evidence().payment_entries, entry)
        found = evidence(refunds=(refused,), payment_entries=entries)

        assert list(histories.payments_move_along_arrows(found)) == []
        assert list(histories.seals_and_refusals_have_their_entries(found)) == []
        [told] = histories.seals_and_refusals_have_their_entries(replace(found, refunds=()))
        assert "refused refunds" in told


@pytest.mark.requirement("FR-247")
class TestTheFeed:
    def unpaid(self, **fields: object) -> Evidence:
        return evidence(**{"order": an_order(status="created", payment_id=None), **fields})

    def test_has_not_been_read_so_far(self) -> None:
        assert list(histories.successes_arrive(self.unpaid(cursor=1))) == []

    def test_brought_the_payment_into_the_inbox(self) -> None:
        received = Received("pay_1", "ord_1", THEN, None, "")
        assert list(histories.successes_arrive(self.unpaid(cursor=2, received=(received,)))) == []

    @pytest.mark.parametrize("received", [(), (Received("pay_1", "ord_2", THEN, None, ""),)])
    def test_lost_it_or_gave_it_to_another_order(self, received: tuple[Received, ...]) -> None:
        [told] = histories.successes_arrive(self.unpaid(cursor=2, received=received))
        assert "pay_1" in told


class TestAKey:
    def keys(self, **fields: object) -> dict[str, object]:
        key = a_key(**fields)
        return {"keys": {key.name: key}}

    @pytest.mark.parametrize(
        ("status", "reply"),
        [
            ("succeeded", {"reply_ok": False}),
            ("failed", {"reply_ok": True}),
            ("in_flight", {"reply_ok": True}),
            ("succeeded", {"reply_ok": None}),
        ],
    )
    def test_has_the_reply_that_its_operation_led_to(
        self, status: str, reply: dict[str, object]
    ) -> None:
        found = evidence(operations=(an_operation(status=status),), **self.keys(**reply))
        [told] = replies.operations_have_their_keys(found)
        assert "op_1" in told

    def test_is_never_forgotten_under_an_operation_in_flight(self) -> None:
        later = NOW + timedelta(days=30)
        found = evidence(operations=(op_in_flight(),), keys={}, now=later)
        assert list(replies.operations_have_their_keys(found)) != []
        found = evidence(operations=(an_operation(),), keys={}, now=later)
        assert list(replies.operations_have_their_keys(found)) == []

    def test_is_free_after_an_operation_that_was_voided(self) -> None:
        voided = an_operation(status="voided")
        free = evidence(operations=(voided,), **self.keys(operation_id=None))
        assert list(replies.keys_have_one_operation(free)) == []
        assert list(replies.operations_have_their_keys(free)) == []

        [told] = replies.keys_have_one_operation(evidence(operations=(voided,)))
        assert "voided" in told

    def test_may_belong_to_another_request_once_it_was_forgotten(self) -> None:
        other = {"operation_id": "op_9", "fingerprint": b"g" * 32}
        next_day = THEN + timedelta(hours=24)
        assert list(replies.keys_have_one_operation(evidence(**self.keys(**other)))) != []
        found = evidence(**self.keys(**other, used_at=next_day))
        assert list(replies.keys_have_one_operation(found)) == []


class TestAReply:
    @pytest.mark.parametrize(
        "reply",
        [
            b"\xff\xff",
            b"",
            a_reply(id="ord_2"),
            a_reply(customer_id="bob"),
            a_reply(etag="1"),
            a_reply(etag="9"),
            a_reply(etag="latest"),
        ],
    )
    def test_tells_what_the_order_was(self, reply: bytes) -> None:
        assert of_key(key_evidence(key=a_key(reply=reply))) == {"I4"}

    def test_is_of_its_method(self) -> None:
        assert of_key(key_evidence(key=a_key(method="Nothing"))) == {"I4"}

    def test_is_of_an_order_that_exists(self) -> None:
        assert of_key(key_evidence(order=None)) == {"I4"}

    def test_shows_what_its_operation_leads_to(self) -> None:
        cancel = an_operation(kind="cancel")
        assert of_key(key_evidence(operation=cancel)) == {"I4"}
        assert of_key(key_evidence(operation=None)) == set()

    def test_that_is_not_final_is_none(self) -> None:
        key = a_key(reply=None, reply_ok=None, replied_at=None)
        assert of_key(key_evidence(key=key)) == set()

    def test_of_a_payment_is_its_row(self) -> None:
        other = a_payment(id="pay_2").reply
        [told] = replies.payment_replies_are_true(evidence(payments=(a_payment(reply=other),)))
        assert "pay_2" in told

    @pytest.mark.parametrize("reply", [b"\xff\xff", b""])
    def test_of_a_refund_can_be_read(self, reply: bytes) -> None:
        assert list(replies.payment_replies_are_true(evidence(refunds=(a_refund(reply=reply),))))

    def test_of_a_refused_refund_has_a_reason(self) -> None:
        refused = a_refund(status="failed", reply_ok=False, reply=refusal("REFUND_EXCEEDS_PAYMENT"))
        assert list(replies.payment_replies_are_true(evidence(refunds=(refused,)))) == []
        wrong = replace(refused, reply=b"")
        [told] = replies.payment_replies_are_true(evidence(refunds=(wrong,)))
        assert "ref_1" in told

    def test_of_a_refund_is_there_once_it_is_final(self) -> None:
        for refund in (a_refund(reply=None), a_refund(status="pending", reply=refusal("X"))):
            told = list(replies.payment_replies_are_true(evidence(refunds=(refund,))))
            assert "ref_1" in told[0]


class TestARefusal:
    declined = an_operation(status="failed")
    entry = an_entry(
        3,
        "paid",
        "paid",
        event_type="payment_failed",
        outcome="refused",
        reason="PAYMENT_DECLINED",
    )

    def found(self, reason: str = "PAYMENT_DECLINED", **fields: object) -> KeyEvidence:
        key = a_key(reply_ok=False, reply=refusal(reason, order_id="ord_1"))
        entries = (*evidence().entries, self.entry)
        return key_evidence(
            **{"key": key, "operation": self.declined, "entries": entries, **fields}
        )

    def test_fits_its_operation_and_has_its_entry(self) -> None:
        assert of_key(self.found()) == set()

    def test_is_one_that_its_operation_can_end_with(self) -> None:
        assert of_key(self.found("REFUND_DECLINED")) == {"I4", "I7"}

    @pytest.mark.parametrize("times", [0, 2])
    def test_has_exactly_one_entry(self, times: int) -> None:
        entries = (*evidence().entries, *[self.entry] * times)
        assert of_key(self.found(entries=entries)) == {"I7"}

    def test_is_of_an_order_that_exists(self) -> None:
        assert of_key(self.found(order=None)) == {"I4"}

    def test_can_be_read(self) -> None:
        for reply in (b"\xff\xff", b""):
            key = a_key(reply_ok=False, reply=reply)
            assert "I4" in of_key(self.found(key=key))

    def test_says_what_it_is_about(self) -> None:
        about = replies.subject_of
        assert about(a_key()).order_id == "ord_1"
        assert about(a_key(reply=b"\xff\xff")).order_id == ""
        assert about(a_key(reply=None)).order_id == ""
        assert about(a_key(reply_ok=False, reply=b"\xff\xff")).order_id == ""
        told = refusal("PAYMENT_NOT_SUCCEEDED", payment_id="pay_1")
        assert about(a_key(reply_ok=False, reply=told)).payment_id == "pay_1"


@pytest.mark.requirement("FR-248")
class TestWhatIsInFlight:
    SLOW = NOW + timedelta(seconds=31)
    FOR_EVER = NOW + timedelta(hours=13)

    @pytest.mark.parametrize(
        "fields",
        [
            {"operations": (op_in_flight(),)},
            {"payments": (a_payment(status="pending"),)},
            {"refunds": (a_refund(status="pending"),)},
            {"received": (Received("pay_1", "ord_1", THEN, None, ""),)},
            {"order": an_order(status="created", payment_id=None)},
        ],
    )
    def test_has_30_seconds_and_then_12_hours(self, fields: dict[str, object]) -> None:
        for now, overdue, waits in (
            (NOW, False, False),
            (self.SLOW, True, False),
            (self.FOR_EVER, False, True),
        ):
            found = evidence(**fields, now=now)
            assert bool(list(in_flight.overdue(found))) == overdue
            assert bool(list(in_flight.waits_for_a_person(found))) == waits

    def test_waits_for_a_person_as_soon_as_no_repeat_will_end_it(self) -> None:
        found = evidence(operations=(op_in_flight(problem="PAYMENT_MISMATCH"),), now=self.SLOW)
        assert list(in_flight.overdue(found)) == []
        [told] = in_flight.waits_for_a_person(found)
        assert "op_1" in told
        assert told.endswith(": PAYMENT_MISMATCH")


@pytest.mark.requirement("FR-246")
class TestAReport:
    violation = Violation("I1", "ord_1", "at most one")
    waiting = Waiting("ord_2", "charge op_1")

    def test_ends_with_its_sum(self) -> None:
        assert list(Report(1, ()).lines()) == ["0 violations in 1 order"]
        *_, last = Report(2, (self.violation,)).lines()
        assert last == "1 violation in 2 orders"

    def test_tells_everything_before(self) -> None:
        report = Report(2, (self.violation,), (self.waiting,), has_ledger=False)
        no_ledger, waiting, violation, _ = report.lines()
        assert "no ledger" in no_ledger
        assert "ord_2: charge op_1" in waiting
        assert violation == "I1 does not hold: order ord_1: at most one"

    def test_names_no_order_that_it_does_not_know(self) -> None:
        told, _ = Report(0, (replace(self.violation, order_id=""),)).lines()
        assert "no order" in told

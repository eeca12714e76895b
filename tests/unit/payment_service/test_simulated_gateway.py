"""The simulated gateway does with each token what its list says, once per key, and remembers."""

import hashlib
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from payment_service.application.ports import (
    Answer,
    Charge,
    Declined,
    GiveBack,
    NotFound,
    Succeeded,
    Unknown,
)
from payment_service.domain.money import Money
from payment_service.gateways.simulated import GatewayKeyReused, SimulatedGateway
from payment_service.gateways.simulated_ledger import LedgerCharge, LedgerRefund, SimulatedLedger
from payment_service.gateways.simulated_tokens import TOKENS
from service_kit.ids import new_id
from tests.clock import StandingClock

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "gateway.md"

SLOW_SECONDS = 0.2
RETENTION = timedelta(hours=24)
A_MOMENT = timedelta(seconds=1)
LOSES_THE_FIRST_CHARGE_ANSWER = {
    "tok_timeoutBeforeCharge",
    "tok_timeoutAfterCharge",
    "tok_errorThenSuccess",
}
BOOKS_OF_0_1_0 = """
CREATE TABLE requests (key TEXT PRIMARY KEY, digest BLOB NOT NULL, attempts INTEGER NOT NULL);
CREATE TABLE charges (
    key TEXT PRIMARY KEY REFERENCES requests (key), reference TEXT NOT NULL UNIQUE,
    order_id TEXT NOT NULL, currency_code TEXT NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0), decline_code TEXT NOT NULL,
    refund_answer TEXT NOT NULL, refund_decline_code TEXT NOT NULL, at TEXT NOT NULL
);
CREATE INDEX ix_charges_order_id ON charges (order_id);
CREATE TABLE refunds (
    key TEXT PRIMARY KEY REFERENCES requests (key), reference TEXT NOT NULL UNIQUE,
    charge_reference TEXT NOT NULL REFERENCES charges (reference), currency_code TEXT NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0), decline_code TEXT NOT NULL,
    at TEXT NOT NULL
);
CREATE INDEX ix_refunds_charge_reference ON refunds (charge_reference);
INSERT INTO charges VALUES
    ('k', 'ch_1', 'order-of-k', 'EUR', 4000, '', 'given', 'refund_failed', '2026-11-23');
INSERT INTO refunds VALUES ('r', 're_1', 'ch_1', 'EUR', 1000, '', '2026-11-23');
"""
DECLINE_CODES = {
    "tok_chargeDeclined": "card_declined",
    "tok_chargeDeclinedInsufficientFunds": "insufficient_funds",
    "tok_chargeDeclinedLostCard": "lost_card",
    "tok_chargeDeclinedStolenCard": "stolen_card",
    "tok_chargeDeclinedExpiredCard": "expired_card",
    "tok_chargeDeclinedIncorrectCvc": "incorrect_cvc",
    "tok_chargeDeclinedProcessingError": "processing_error",
    "tok_chargeDeclinedFraudulent": "fraudulent",
}


class Bench:
    """A gateway over a ledger file, asked as the payment service asks it."""

    def __init__(self, path: Path, *, key_retention: timedelta | None = RETENTION) -> None:
        self.path = path
        self.ledger = SimulatedLedger(path)
        self.clock = StandingClock()
        self.gateway = SimulatedGateway(
            ledger=self.ledger,
            slow_seconds=SLOW_SECONDS,
            clock=self.clock,
            key_retention=key_retention,
        )

    def charge(
        self, token: str, key: str, *, amount: int = 4000, timeout_seconds: float = 5
    ) -> Answer:
        charge = Charge(
            key=key, order_id=f"order-of-{key}", amount=Money("EUR", amount), payment_token=token
        )
        return self.gateway.charge(charge, timeout_seconds=timeout_seconds)

    def charged(self, token: str) -> str:
        """Charge until it succeeds, and return the reference."""
        key = new_id("pay_")
        answers = [self.charge(token, key) for _ in range(2)]
        assert isinstance(answers[1], Succeeded)
        return answers[1].reference

    def refund(
        self, reference: str, key: str, amount: int = 1000, timeout_seconds: float = 5
    ) -> Answer:
        refund = GiveBack(key=key, charge_reference=reference, amount=Money("EUR", amount))
        return self.gateway.refund(refund, timeout_seconds=timeout_seconds)

    def charges(self, key: str) -> list[LedgerCharge]:
        with self.ledger.transaction() as books:
            return [c for c in books.charges(f"order-of-{key}") if not c.decline_code]

    def refunds(self, reference: str) -> list[LedgerRefund]:
        with self.ledger.transaction() as books:
            return [refund for refund in books.refunds(reference) if not refund.decline_code]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "gateway.db")
    yield bench
    bench.gateway.close()


class TestACharge:
    @pytest.mark.parametrize("token", [token for token in TOKENS if token not in DECLINE_CODES])
    def test_is_made_once_however_often_it_is_sent(self, bench: Bench, token: str) -> None:
        first, *repeats = [bench.charge(token, "k") for _ in range(3)]
        assert isinstance(repeats[0], Succeeded)
        assert repeats[0] == repeats[1]
        assert first == (Unknown() if token in LOSES_THE_FIRST_CHARGE_ANSWER else repeats[0])
        assert [charge.amount_minor for charge in bench.charges("k")] == [4000]

    @pytest.mark.parametrize(("token", "code"), DECLINE_CODES.items())
    def test_is_declined_with_its_code(self, bench: Bench, token: str, code: str) -> None:
        assert [bench.charge(token, "k") for _ in range(2)] == [Declined(code)] * 2
        assert bench.charges("k") == []

    @pytest.mark.parametrize(
        ("token", "charged"),
        [
            ("tok_timeoutBeforeCharge", 0),
            ("tok_errorThenSuccess", 0),
            ("tok_timeoutAfterCharge", 1),
            ("tok_slow", 1),
        ],
    )
    def test_without_an_answer_was_made_or_was_not(
        self, bench: Bench, token: str, charged: int
    ) -> None:
        assert bench.charge(token, "k", timeout_seconds=0.05) == Unknown()
        assert len(bench.charges("k")) == charged
        found = bench.gateway.find_charge("k", timeout_seconds=5)
        assert isinstance(found, Succeeded if charged else NotFound)

    def test_that_is_slow_is_answered_late_and_its_repeat_at_once(self, bench: Bench) -> None:
        started = time.monotonic()
        assert isinstance(bench.charge("tok_slow", "k"), Succeeded)
        assert time.monotonic() - started >= SLOW_SECONDS
        started = time.monotonic()
        assert isinstance(bench.charge("tok_slow", "k"), Succeeded)
        assert time.monotonic() - started < SLOW_SECONDS

    @pytest.mark.parametrize(
        ("token", "amount"), [("tok_amex", 4000), ("tok_visa", 4001)], ids=["token", "amount"]
    )
    def test_under_a_key_of_another_request_is_our_bug(
        self, bench: Bench, token: str, amount: int
    ) -> None:
        bench.charge("tok_visa", "k")
        with pytest.raises(GatewayKeyReused) as error:
            bench.charge(token, "k", amount=amount)
        assert error.value.key == "k"
        assert len(bench.charges("k")) == 1

    def test_is_remembered_by_the_next_process(self, bench: Bench) -> None:
        answer = bench.charge("tok_timeoutAfterCharge", "k")
        bench.gateway.close()
        again = Bench(bench.path)
        assert answer == Unknown()
        assert isinstance(again.charge("tok_timeoutAfterCharge", "k"), Succeeded)
        assert len(again.charges("k")) == 1
        again.gateway.close()

    def test_is_made_once_by_many_at_once(self, bench: Bench) -> None:
        others = [Bench(bench.path) for _ in range(3)]
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda b=b: answers.append(b.charge("tok_visa", "k")))
            for b in (bench, *others) * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(answers)) == 1
        assert len(bench.charges("k")) == 1
        for other in others:
            other.gateway.close()

    def test_is_unknown_when_the_books_cannot_be_opened(self, bench: Bench) -> None:
        blocker = sqlite3.connect(bench.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        bench.ledger._connection.execute("PRAGMA busy_timeout = 10")
        assert bench.charge("tok_visa", "k") == Unknown()
        assert bench.gateway.find_charge("k", timeout_seconds=5) == Unknown()
        blocker.execute("ROLLBACK")
        blocker.close()
        assert isinstance(bench.charge("tok_visa", "k"), Succeeded)


class TestARefund:
    def test_is_made_once_however_often_it_is_sent(self, bench: Bench) -> None:
        reference = bench.charged("tok_visa")
        first, *repeats = [bench.refund(reference, "r") for _ in range(3)]
        assert isinstance(first, Succeeded)
        assert repeats == [first] * 2
        assert [refund.amount_minor for refund in bench.refunds(reference)] == [1000]

    def test_is_declined_for_its_token(self, bench: Bench) -> None:
        reference = bench.charged("tok_refundFail")
        assert bench.refund(reference, "r") == Declined("refund_failed")
        assert bench.refunds(reference) == []

    def test_is_made_although_its_first_answer_is_lost(self, bench: Bench) -> None:
        reference = bench.charged("tok_refundTimeoutAfter")
        assert bench.refund(reference, "r") == Unknown()
        assert len(bench.refunds(reference)) == 1
        assert isinstance(bench.gateway.find_refund("r", timeout_seconds=5), Succeeded)
        assert isinstance(bench.refund(reference, "r"), Succeeded)
        assert len(bench.refunds(reference)) == 1

    def test_that_is_slow_is_answered_late(self, bench: Bench) -> None:
        reference = bench.charged("tok_refundSlow")
        assert bench.refund(reference, "r", timeout_seconds=0.05) == Unknown()
        assert isinstance(bench.refund(reference, "r"), Succeeded)
        assert isinstance(bench.refund(reference, "r2"), Succeeded)

    def test_of_more_than_is_left_is_declined(self, bench: Bench) -> None:
        reference = bench.charged("tok_visa")
        assert isinstance(bench.refund(reference, "r1", 3000), Succeeded)
        assert bench.refund(reference, "r2", 1001) == Declined("refund_exceeds_charge")
        assert isinstance(bench.refund(reference, "r3", 1000), Succeeded)

    def test_of_a_charge_that_it_does_not_know_is_declined(self, bench: Bench) -> None:
        """Like one that a person has taken from another gateway's books."""
        assert bench.refund("ch_of_another", "r1") == Declined("charge_unknown")
        assert bench.refund("ch_of_another", "r1") == Declined("charge_unknown")
        assert bench.gateway.find_refund("r1", timeout_seconds=5) == Declined("charge_unknown")

    def test_under_a_key_of_another_request_is_our_bug(self, bench: Bench) -> None:
        reference = bench.charged("tok_visa")
        bench.refund(reference, "r")
        with pytest.raises(GatewayKeyReused):
            bench.refund(reference, "r", 999)

    def test_that_nobody_sent_is_not_found(self, bench: Bench) -> None:
        assert bench.gateway.find_refund("r", timeout_seconds=5) == NotFound()


class TestAKey:
    def test_is_remembered_until_its_first_use_is_too_old(self, bench: Bench) -> None:
        first = bench.charge("tok_visa", "k")
        for _ in range(2):
            bench.clock.move(RETENTION / 2)
            assert bench.charge("tok_visa", "k") == first
        assert len(bench.charges("k")) == 1

    def test_that_was_forgotten_charges_again(self, bench: Bench) -> None:
        first = bench.charge("tok_visa", "k")
        bench.clock.move(RETENTION + A_MOMENT)
        again = bench.charge("tok_visa", "k")
        assert isinstance(again, Succeeded)
        assert again != first
        assert bench.charge("tok_visa", "k") == again
        assert [charge.amount_minor for charge in bench.charges("k")] == [4000, 4000]

    def test_that_was_forgotten_gives_back_again(self, bench: Bench) -> None:
        reference = bench.charged("tok_visa")
        first = bench.refund(reference, "r")
        bench.clock.move(RETENTION + A_MOMENT)
        again = bench.refund(reference, "r")
        assert isinstance(again, Succeeded)
        assert again != first
        assert bench.refund(reference, "r") == again
        assert [refund.amount_minor for refund in bench.refunds(reference)] == [1000, 1000]

    def test_that_was_forgotten_is_still_found(self, bench: Bench) -> None:
        first = bench.charge("tok_visa", "k")
        assert isinstance(first, Succeeded)
        returned = bench.refund(first.reference, "r")
        bench.clock.move(RETENTION + A_MOMENT)
        assert bench.gateway.find_charge("k", timeout_seconds=5) == first
        assert bench.gateway.find_refund("r", timeout_seconds=5) == returned

    def test_moves_money_though_an_attempt_after_it_was_forgotten_was_lost(
        self, bench: Bench
    ) -> None:
        for _ in range(2):
            assert bench.charge("tok_timeoutBeforeCharge", "k") == Unknown()
            assert isinstance(bench.charge("tok_timeoutBeforeCharge", "k"), Succeeded)
            bench.clock.move(RETENTION + A_MOMENT)
        assert len(bench.charges("k")) == 2

    def test_that_was_forgotten_is_good_for_another_request(self, bench: Bench) -> None:
        bench.charge("tok_chargeDeclined", "k")
        bench.clock.move(RETENTION + A_MOMENT)
        answer = bench.charge("tok_visa", "k", amount=1)
        assert isinstance(answer, Succeeded)
        with pytest.raises(GatewayKeyReused):
            bench.charge("tok_chargeDeclined", "k")
        # What moved money counts for more than what came first.
        assert bench.gateway.find_charge("k", timeout_seconds=5) == answer

    def test_is_not_forgotten_when_the_clock_is_set_back(self, bench: Bench) -> None:
        answer = bench.charge("tok_timeoutAfterCharge", "k")
        bench.clock.move(-2 * RETENTION)
        assert answer == Unknown()
        assert isinstance(bench.charge("tok_timeoutAfterCharge", "k"), Succeeded)
        assert len(bench.charges("k")) == 1

    def test_is_never_forgotten_if_so_wanted(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path / "for-ever.db", key_retention=None)
        first = bench.charge("tok_visa", "k")
        bench.clock.move(timedelta(days=10_000))
        assert bench.charge("tok_visa", "k") == first
        bench.gateway.close()


class TestBooksOfAnEarlierVersion:
    def test_are_taken_over(self, tmp_path: Path) -> None:
        path = tmp_path / "gateway.db"
        digest = hashlib.sha256(b"charge\norder-of-k\nEUR\n4000\ntok_refundFail").digest()
        with closing(sqlite3.connect(path)) as old:
            old.executescript(BOOKS_OF_0_1_0)
            old.execute("INSERT INTO requests VALUES ('k', ?, 1)", (digest,))
            old.commit()
        bench = Bench(path)
        charge = bench.charge("tok_refundFail", "k")
        assert charge == Succeeded("ch_1")
        assert bench.gateway.find_refund("r", timeout_seconds=5) == Succeeded("re_1")
        assert bench.refund("ch_1", "r2") == Declined("refund_failed")
        # They do not say how old a key is: it counts from now.
        bench.clock.move(RETENTION - timedelta(minutes=1))
        assert bench.charge("tok_refundFail", "k") == charge
        bench.clock.move(timedelta(minutes=2))
        assert bench.charge("tok_refundFail", "k") != charge
        bench.gateway.close()

    def test_are_taken_over_once_by_many_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "gateway.db"
        with closing(sqlite3.connect(path)) as old:
            old.executescript(BOOKS_OF_0_1_0)
        with ThreadPoolExecutor(4) as threads:
            benches = list(threads.map(lambda _: Bench(path), range(4)))
        for bench in benches:
            assert len(bench.charges("k")) == 1
            bench.gateway.close()


def test_every_usual_decline_code_has_its_token() -> None:
    codes = {n: t.charge_decline_code for n, t in TOKENS.items() if t.charge_decline_code}
    assert codes == DECLINE_CODES


def test_the_books_hold_no_token(bench: Bench) -> None:
    for token in TOKENS:
        bench.charge(token, new_id("pay_"), timeout_seconds=0.01)
    bench.gateway.close()
    content = b"".join(path.read_bytes() for path in bench.path.parent.iterdir())
    assert b"order-of-pay_" in content
    assert b"tok_" not in content


def test_the_documentation_lists_every_token_and_no_other() -> None:
    text = DOCUMENTATION.read_text("utf-8")
    listed = dict(re.findall(r"^\| `(tok_\w+)` \| (.*) \|$", text, re.MULTILINE))
    assert listed == {name: token.description for name, token in TOKENS.items()}


class TestAnAnswer:
    @pytest.mark.parametrize("kind", [Succeeded, Declined])
    @pytest.mark.parametrize("told", ["", "x" * 65])
    def test_is_none_if_it_could_not_be_kept(
        self, kind: type[Succeeded | Declined], told: str
    ) -> None:
        with pytest.raises(ValueError, match=f"{len(told)} characters"):
            kind(told)

    @pytest.mark.parametrize("kind", [Succeeded, Declined])
    def test_may_be_as_long_as_what_is_kept(self, kind: type[Succeeded | Declined]) -> None:
        kind("x" * 64)

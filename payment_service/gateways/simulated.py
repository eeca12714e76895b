"""A gateway that moves no real money, and behaves like one that does.

It books every charge and refund in a file of its own, does the same thing only once per key for
as long as it remembers the key, and does with each token exactly what `simulated_tokens` says:
approve, decline, be slow, or lose an answer. A lost answer is "unknown" at once: nobody has to
wait for a timeout.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from payment_service.application.ports import (
    Answer,
    Charge,
    Declined,
    GiveBack,
    NotFound,
    Succeeded,
    Unknown,
)
from payment_service.gateways.simulated_ledger import (
    Books,
    LedgerCharge,
    LedgerRefund,
    SimulatedLedger,
)
from payment_service.gateways.simulated_tokens import TOKENS, FirstAnswer
from service_kit.clock import Clock
from service_kit.database import transaction_is_open
from service_kit.ids import new_id

NAME: Final = "simulated"
CHARGE_UNKNOWN: Final = "charge_unknown"
REFUND_EXCEEDS_CHARGE: Final = "refund_exceeds_charge"

_Booked = tuple[LedgerCharge | LedgerRefund | None, FirstAnswer]


class GatewayKeyReused(Exception):
    """A key was sent with another request than its first one: a bug of ours."""

    def __init__(self, *, key: str) -> None:
        super().__init__(f"the gateway knows the key {key} with another request")
        self.key = key


class SimulatedGateway:
    """The `Gateway` port over a ledger file.

    `slow_seconds` is how late a late answer comes. A key that was first sent longer than
    `key_retention` ago is forgotten, and moves money again; None: never.
    """

    name = NAME
    accepted_tokens = f"one of {', '.join(TOKENS)}"

    def __init__(
        self,
        *,
        ledger: SimulatedLedger,
        slow_seconds: float,
        clock: Clock,
        key_retention: timedelta | None = None,
    ) -> None:
        self._ledger = ledger
        self._slow_seconds = slow_seconds
        self._key_retention = key_retention
        self._clock = clock
        self._log = structlog.get_logger()

    def accepts(self, payment_token: str) -> bool:
        """Say whether the token is in the list."""
        return payment_token in TOKENS

    def charge(self, charge: Charge, *, timeout_seconds: float) -> Answer:
        """Book the charge, once per key. Raises GatewayKeyReused."""
        return self._answer(lambda books: self._book_charge(books, charge), timeout_seconds)

    def refund(self, refund: GiveBack, *, timeout_seconds: float) -> Answer:
        """Book the refund, once per key. Raises GatewayKeyReused."""
        return self._answer(lambda books: self._book_refund(books, refund), timeout_seconds)

    def find_charge(self, key: str, *, timeout_seconds: float) -> Answer | NotFound:
        """Look the charge up."""
        return self._look_up(lambda books: books.charge(key))

    def find_refund(self, key: str, *, timeout_seconds: float) -> Answer | NotFound:
        """Look the refund up."""
        return self._look_up(lambda books: books.refund(key))

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def _answer(self, book: Callable[[Books], _Booked], timeout_seconds: float) -> Answer:
        # Somebody else's answer is never waited for while rows of ours are locked.
        assert not transaction_is_open()
        try:
            with self._ledger.transaction() as books:
                booked, first_answer = book(books)
        except sqlite3.Error as error:
            return self._unavailable(error)
        match first_answer:
            case FirstAnswer.LOST_BEFORE | FirstAnswer.LOST_AFTER:
                return Unknown()
            case FirstAnswer.LATE:
                time.sleep(min(self._slow_seconds, timeout_seconds))
                if self._slow_seconds > timeout_seconds:
                    return Unknown()
            case FirstAnswer.GIVEN:
                pass
        return _told(booked) if booked else Unknown()

    def _look_up(
        self, find: Callable[[Books], LedgerCharge | LedgerRefund | None]
    ) -> Answer | NotFound:
        try:
            with self._ledger.transaction() as books:
                booked = find(books)
        except sqlite3.Error as error:
            return self._unavailable(error)
        return _told(booked) if booked else NotFound()

    def _unavailable(self, error: sqlite3.Error) -> Unknown:
        self._log.warning("gateway.unavailable", gateway=self.name, error=type(error).__name__)
        return Unknown()

    def _book_charge(self, books: Books, charge: Charge) -> _Booked:
        token = TOKENS[charge.payment_token]
        attempt = self._attempt(
            books,
            charge.key,
            "charge",
            charge.order_id,
            charge.amount.currency_code,
            str(charge.amount.minor_units),
            charge.payment_token,
        )
        first_answer = token.charge if attempt == 1 else FirstAnswer.GIVEN
        booked = books.charge_under(charge.key)
        if booked is None and first_answer is not FirstAnswer.LOST_BEFORE:
            booked = LedgerCharge(
                key=charge.key,
                reference=new_id("ch_"),
                order_id=charge.order_id,
                currency_code=charge.amount.currency_code,
                amount_minor=charge.amount.minor_units,
                decline_code=token.charge_decline_code,
                refund_answer=token.refund.value,
                refund_decline_code=token.refund_decline_code,
            )
            books.add_charge(booked, at=self._clock.now())
        return booked, first_answer

    def _book_refund(self, books: Books, refund: GiveBack) -> _Booked:
        attempt = self._attempt(
            books,
            refund.key,
            "refund",
            refund.charge_reference,
            refund.amount.currency_code,
            str(refund.amount.minor_units),
        )
        charge = books.charge_of_reference(refund.charge_reference)
        first_answer = FirstAnswer.GIVEN
        if charge is not None and attempt == 1:
            first_answer = FirstAnswer(charge.refund_answer)
        booked = books.refund_under(refund.key)
        if booked is None:
            booked = LedgerRefund(
                key=refund.key,
                reference=new_id("re_"),
                charge_reference=refund.charge_reference,
                currency_code=refund.amount.currency_code,
                amount_minor=refund.amount.minor_units,
                decline_code=_refund_decline_code(books, charge, refund),
            )
            books.add_refund(booked, at=self._clock.now())
        return booked, first_answer

    def _attempt(self, books: Books, key: str, *request: str) -> int:
        now = self._clock.now()
        if self._key_retention is not None:
            books.forget_key(key, first_before=now - self._key_retention)
        digest = hashlib.sha256("\n".join(request).encode()).digest()
        attempt = books.count_attempt(key, digest, at=now)
        if attempt is None:
            raise GatewayKeyReused(key=key)
        return attempt


def _refund_decline_code(books: Books, charge: LedgerCharge | None, refund: GiveBack) -> str:
    if charge is None:  # one that a person vouched for: it is in other books than these
        return CHARGE_UNKNOWN
    return charge.refund_decline_code or _excess(books, charge, refund)


def _excess(books: Books, charge: LedgerCharge, refund: GiveBack) -> str:
    given = sum(r.amount_minor for r in books.refunds(charge.reference) if not r.decline_code)
    left = charge.amount_minor - given
    fits = refund.amount.minor_units <= left and not charge.decline_code
    same_currency = refund.amount.currency_code == charge.currency_code
    return "" if fits and same_currency else REFUND_EXCEEDS_CHARGE


def _told(booked: LedgerCharge | LedgerRefund) -> Answer:
    return Declined(booked.decline_code) if booked.decline_code else Succeeded(booked.reference)

"""How far the reader of the payment history is behind: said too high rather than too low."""

import time
from collections.abc import Callable

import pytest

from order_service.application.ports import PaymentPage
from order_service.application.read_payments import ReadPayments
from tests.integration.order_service.background import Background, open_background
from tests.integration.order_service.scripted_payments import ScriptedPayments

pytestmark = pytest.mark.requirement("FR-251")


class Moment:
    """A moment, to compare the lag with."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def is_before_what_was_read(self, read: ReadPayments) -> bool:
        """Say whether all was read later than this moment."""
        lag = read.lag_seconds()
        return lag < time.monotonic() - self._at

    def is_after_what_was_read(self, read: ReadPayments) -> bool:
        """Say whether nothing was read to its end since this moment."""
        passed = time.monotonic() - self._at
        return read.lag_seconds() >= passed


class AskedMeanwhile(ScriptedPayments):
    """Has somebody else do something before it answers with what is there already."""

    def __init__(self, theirs: ScriptedPayments, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._theirs = theirs
        self._meanwhile = meanwhile

    def succeeded_since(self, sequence: int) -> PaymentPage:
        page = self._theirs.succeeded_since(sequence)
        self._meanwhile()
        return page


class TestLag:
    def test_begins_when_the_reader_is_made(self, background: Background) -> None:
        now = Moment()
        assert now.is_after_what_was_read(background.read)

    def test_ends_when_nothing_is_left_to_read(self, background: Background) -> None:
        for _ in range(2):
            before = Moment()
            background.read()
            assert before.is_before_what_was_read(background.read)

    def test_ends_with_the_last_page_although_it_has_something(
        self, background: Background
    ) -> None:
        """Where something new is there at every look, all is read all the same."""
        background.desk.payments.paid_directly(background.desk.place())
        before = Moment()
        background.read()
        assert before.is_before_what_was_read(background.read)

    def test_does_not_end_with_a_full_page(self, background: Background) -> None:
        desk = background.desk
        for _ in range(101):
            desk.payments.paid_directly(desk.place())
        before = Moment()
        assert background.read()
        assert before.is_after_what_was_read(background.read)
        assert not background.read()
        assert before.is_before_what_was_read(background.read)

    def test_grows_while_the_payment_service_is_away(self, background: Background) -> None:
        background.read()
        before = Moment()
        background.desk.payments.reachable = False
        background.read()
        assert before.is_after_what_was_read(background.read)

    def test_does_not_end_with_a_page_that_another_process_overtook(
        self, background: Background
    ) -> None:
        """It may have read less than this page has."""
        desk = background.desk
        desk.payments.paid_directly(desk.place())
        other = open_background(desk.database, desk=desk)
        read = ReadPayments(
            store=desk.store, payments=AskedMeanwhile(desk.payments, other.read), clock=desk.clock
        )
        before = Moment()
        read()
        assert before.is_after_what_was_read(read)
        read()
        assert before.is_before_what_was_read(read)

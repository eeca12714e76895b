"""What every run ends with finds what is left unfinished, and what does not fit together."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.builders import new_order_items
from tests.checkout import Checkout, running_checkout
from tests.client import ALICE
from tests.faults.aftermath import Books, check_aftermath, settled
from tests.faults.figures import Figures
from tests.faults.history import Answered, Call, History, ask


class Desk:
    """A checkout whose clients' calls are recorded."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self.history = History()
        self.books = Books(
            checkout.order_database,
            checkout.payment_database,
            checkout.payment_settings.effective_gateway_ledger(),
        )

    def place_and_pay(self, token: str = "tok_visa") -> Call:
        """Return the call that pays."""
        channel = self.checkout.order_channel
        created = self.history.send(
            channel, ask("CreateOrder", ALICE, items=new_order_items())
        ).outcome
        assert isinstance(created, Answered)
        assert created.order is not None
        pay = ask("PayOrder", ALICE, order_id=created.order.id, payment_token=token)
        return self.history.send(channel, pay)

    def check(self) -> None:
        """Compare all sources."""
        check_aftermath(self.books, self.history.calls, Figures())

    def rewrite_ledger(self, statement: str) -> None:
        """Have the gateway's books say something else."""
        with closing(sqlite3.connect(self.books.ledger)) as ledger, ledger:
            ledger.execute("PRAGMA foreign_keys = OFF")
            ledger.execute(statement)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with running_checkout(tmp_path, background_work=True) as checkout:
        yield Desk(checkout)


def test_a_run_without_a_fault_has_no_problem(desk: Desk) -> None:
    desk.place_and_pay()
    desk.place_and_pay("tok_chargeDeclined")
    desk.place_and_pay("tok_timeoutAfterCharge")
    desk.check()


def test_what_stays_in_flight_is_named(tmp_path: Path) -> None:
    with running_checkout(tmp_path, background_work=False) as checkout:
        desk = Desk(checkout)
        order_id = desk.place_and_pay("tok_timeoutBeforeCharge").request.order_id
        [operation, payment, *_] = settled(desk.books, within_seconds=0)
    assert f"of order {order_id} is in flight" in operation
    assert f"of order {order_id} is pending" in payment


def test_a_second_charge_is_found(desk: Desk) -> None:
    desk.place_and_pay()
    desk.rewrite_ledger(
        "INSERT INTO charges SELECT 'another', 1, 'ch_another', order_id, currency_code,"
        " amount_minor, decline_code, refund_answer, refund_decline_code, at FROM charges"
    )
    with pytest.raises(AssertionError, match="charged 2 times"):
        desk.check()


def test_a_charge_that_was_never_made_is_found(desk: Desk) -> None:
    desk.place_and_pay()
    desk.rewrite_ledger("DELETE FROM charges")
    with pytest.raises(AssertionError, match="which was not charged"):
        desk.check()

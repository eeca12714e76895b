"""A checkout whose time and whose work the test has in its hands, and clients that are recorded."""

from datetime import timedelta
from typing import Final

from tests.checkout import Checkout
from tests.faults.aftermath import books_of, check_aftermath
from tests.faults.background import settle_everything
from tests.faults.clients import Client
from tests.faults.figures import Figures
from tests.faults.history import History
from tests.faults.points import Points

# More than any work waits for its next try.
LATER: Final = timedelta(seconds=30)


class Shop:
    """A checkout whose clock the test moves and whose work the test does, and its clients."""

    def __init__(self, checkout: Checkout, database: str, points: Points, figures: Figures) -> None:
        self.checkout = checkout
        self.points = points
        self.history = History()
        self.client = Client(checkout.order_channel, checkout.payment_channel, self.history)
        self._database = database
        self._figures = figures

    def later(self, by: timedelta) -> None:
        """Move the clock of both services."""
        self.checkout.clock.move(by)

    def count(self, what: str) -> None:
        """Count one more."""
        self._figures.add(f"{what}, {self._database}")

    def settle(self) -> None:
        """Let the workers do what is due, and what is due a little later."""
        settle_everything(self.checkout)
        self.later(LATER)
        settle_everything(self.checkout)

    def check(self) -> None:
        """Let the workers do what is left, and compare what everybody says."""
        self.settle()
        books, clock = books_of(self.checkout), self.checkout.clock
        check_aftermath(books, self.history.calls, self._figures, clock=clock)

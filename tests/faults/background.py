"""The work that nobody waits for, done when a test says so, in the test's own thread."""

from typing import Final

from tests.checkout import Checkout

ASK_AGAIN: Final = ("ask-about-payments", "ask-about-refunds")
SETTLE: Final = "settle-left-behind"
READ: Final = "read-payments"
APPLY: Final = "apply-payments"
FORGET: Final = "forget-keys"

# Far more than any test leaves behind.
_PIECES_MAX: Final = 100_000


def run(checkout: Checkout, name: str) -> bool:
    """Do one piece of a task of either service. Say whether there may be more."""
    server = checkout.payment_server if name in ASK_AGAIN else checkout.order_server
    return server.workers.run(name)


def run_dry(checkout: Checkout, name: str) -> int:
    """Do all of a task that is due, and return how many pieces that was."""
    for pieces in range(_PIECES_MAX):
        if not run(checkout, name):
            return pieces
    raise AssertionError(f"{name} does not come to an end")


def settle_everything(checkout: Checkout) -> None:
    """Do everything that is due, in an order in which one leads to the other."""
    for name in (*ASK_AGAIN, SETTLE, READ, APPLY):
        run_dry(checkout, name)

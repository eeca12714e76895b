"""A checkout whose lines can be broken: from the callers to it, and between its services."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any, Final

import grpc

from tests.checkout import Checkout
from tests.client import PAYMENT_SERVICE_NAME
from tests.faults.aftermath import books_of, check_aftermath
from tests.faults.figures import Figures
from tests.faults.history import Answered, Call, History, Refused, Request
from tests.faults.proxy import Proxy
from tests.system.checkouts import Checkouts

# Long enough for the payment service to be asked, short enough to wait for in vain.
CALL_SECONDS: Final = 1.6
_PATIENCE_SECONDS: Final = 25.0
_PAUSE_SECONDS: Final = 0.02
_SLOW_SECONDS: Final = 0.2
# What an ordinary client would have; the default waits a second before it connects again.
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)

CALLERS: Final = "callers to orders"
DIRECT: Final = "callers to payments"
SERVICES: Final = "orders to payments"


class Lines:
    """The checkout, a proxy on each line, and the history of what its callers were told."""

    def __init__(self, checkout: Checkout, proxies: dict[str, Proxy], random: Random) -> None:
        self.checkout = checkout
        self.proxies = proxies
        self.random = random
        self.history = History()
        self._orders = grpc.insecure_channel(proxies[CALLERS].address, options=_OPTIONS)
        self._payments = grpc.insecure_channel(proxies[DIRECT].address, options=_OPTIONS)

    def close(self) -> None:
        """Close the callers' side."""
        self._orders.close()
        self._payments.close()

    def send(self, request: Request, *, timeout: float = CALL_SECONDS) -> Call:
        """Send a request over the callers' lines, once."""
        is_payment = request.service == PAYMENT_SERVICE_NAME
        channel = self._payments if is_payment else self._orders
        return self.history.send(channel, request, timeout=timeout)

    def send_until_final(self, request: Request, *, timeout: float = CALL_SECONDS) -> Call:
        """Send a request with the same key until its answer is final."""
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while not is_final(call := self.send(request, timeout=timeout)):
            assert time.monotonic() < give_up_at, f"{call}: still {call.outcome}"
            time.sleep(_PAUSE_SECONDS)
        return call

    def answered(self, request: Request) -> Call:
        """Send a request that must be answered, over lines that are whole."""
        call = self.send_until_final(request, timeout=10)
        assert isinstance(call.outcome, Answered), f"{call}: {call.outcome}"
        return call

    def heal(self) -> None:
        """Mend every line."""
        for proxy in self.proxies.values():
            proxy.heal()

    def check(self, figures: Figures) -> None:
        """Mend every line, wait until everything is settled, and compare all sources."""
        self.heal()
        check(self.checkout, self.history, figures)


def is_final(call: Call) -> bool:
    """Say whether the same request would get the same answer for ever."""
    outcome = call.outcome
    return isinstance(outcome, Answered) or (isinstance(outcome, Refused) and outcome.final)


def check(checkout: Checkout, history: History, figures: Figures) -> None:
    """Wait until everything is settled, and compare the databases, the ledger and the history."""
    check_aftermath(books_of(checkout), history.calls, figures)


@contextmanager
def breakable(
    checkouts: Checkouts, database: str, *, seed: int, **settings: Any
) -> Iterator[Lines]:
    """Run a checkout with workers, and a proxy on each of its lines."""
    settings.setdefault("background_work", True)
    settings.setdefault("payment_gateway_slow_seconds", _SLOW_SECONDS)
    with ExitStack() as stack:
        proxies = {name: stack.enter_context(Proxy()) for name in (CALLERS, DIRECT, SERVICES)}
        target = {"order_payment_target": proxies[SERVICES].address}
        checkout = stack.enter_context(checkouts.running(database, **target, **settings))
        proxies[SERVICES].lead_to(checkout.payment_server.address)
        proxies[DIRECT].lead_to(checkout.payment_server.address)
        proxies[CALLERS].lead_to(checkout.order_server.address)
        lines = Lines(checkout, proxies, Random(seed))  # noqa: S311 - it must repeat itself
        stack.callback(lines.close)
        yield lines

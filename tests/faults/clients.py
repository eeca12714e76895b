"""Clients that do what the contract asks of them: send the same request again until it is final."""

import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from tests.builders import new_order_items
from tests.client import ALICE, PAYMENT_SERVICE_NAME, Caller
from tests.faults.history import Answered, Call, History, Refused, Request, Unknown, ask

TOTAL: Final = 4000

# The contract's way of saying: not now.
TRANSIENT: Final = frozenset(
    {
        "CONCURRENT_UPDATE",
        "DEADLINE_TOO_SHORT",
        "OVERLOADED",
        "PAYMENT_IN_PROGRESS",
        "PAYMENT_SERVICE_UNAVAILABLE",
        "RATE_LIMITED",
        "REFUND_IN_PROGRESS",
        "REQUEST_IN_PROGRESS",
    }
)

# The answer is missing, but somebody will look for it.
_BEGUN: Final = ("PENDING", "PAYMENT_OUTCOME_UNKNOWN")

# Short: a repeat has to wait for as long as the call that died might have lasted.
TIMEOUT_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 60.0
# Between two attempts: at first, and at the longest.
PAUSES_SECONDS: Final = (0.02, 0.2)


class Client:
    """Calls both services, and records everything."""

    def __init__(
        self,
        orders: grpc.Channel,
        payments: grpc.Channel,
        history: History,
        *,
        pauses_seconds: tuple[float, float] = PAUSES_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.history = history
        self._pauses_seconds = pauses_seconds
        self._patience_seconds = patience_seconds
        self._last_at = float("inf")
        self._orders = orders
        self._payments = payments

    def lose_patience_in(self, seconds: float) -> None:
        """Wait for no answer any longer than this from now on, in whatever thread."""
        self._last_at = time.monotonic() + seconds

    def once(self, request: Request, *, timeout: float = TIMEOUT_SECONDS) -> Call:
        """Send a request once."""
        return self._exchange(request, timeout)[0]

    def insist(self, request: Request) -> Call:
        """Send a request until its answer is final."""
        return self.exchange(request)[0]

    def exchange(self, request: Request) -> tuple[Call, Any]:
        """Send a request until its answer is final; return the response too, None if refused."""
        return self._send_while(is_transient, request)

    def deliver(self, request: Request) -> Call:
        """Send a request until something is known to have been begun."""
        return self._send_while(is_undelivered, request)[0]

    def place(self, caller: Caller = ALICE, key: str = "") -> Any:
        """Place an order and return it, with its ticket."""
        named = {"idempotency_key": key} if key else {}
        request = ask("CreateOrder", caller, items=new_order_items(TOTAL), **named)
        call, response = self.exchange(request)
        assert isinstance(call.outcome, Answered), call
        return response.order

    def pay_directly(self, order: Any) -> str:
        """Pay an order's ticket at the payment service, and return the payment's id."""
        request = ask(
            "ProcessPayment",
            ALICE,
            about=order.id,
            payment_ticket=order.payment_ticket,
            payment_token="tok_visa",
        )
        outcome = self.insist(request).outcome
        assert isinstance(outcome, Answered)
        assert outcome.payment is not None
        return outcome.payment.id

    def _send_while(self, is_in_vain: Callable[[Call], bool], request: Request) -> tuple[Call, Any]:
        give_up_at = time.monotonic() + self._patience_seconds
        pause, longest = self._pauses_seconds
        while True:
            call, response = self._exchange(request, TIMEOUT_SECONDS)
            if not is_in_vain(call):
                return call, response
            assert time.monotonic() < min(give_up_at, self._last_at), (
                f"{call}: still {call.outcome}"
            )
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def _exchange(self, request: Request, timeout: float) -> tuple[Call, Any]:
        to_payments = request.service == PAYMENT_SERVICE_NAME
        channel = self._payments if to_payments else self._orders
        return self.history.exchange(channel, request, timeout=timeout)


def is_transient(call: Call) -> bool:
    """Say whether the same request may be answered otherwise when it is sent again."""
    match call.outcome:
        case Unknown():
            return True
        case Refused(reason=reason):
            return reason in TRANSIENT
        case _:
            return False


def is_undelivered(call: Call) -> bool:
    """Say whether the request may not even have been begun."""
    begun = isinstance(call.outcome, Unknown) and call.outcome.problem.endswith(_BEGUN)
    return is_transient(call) and not begun

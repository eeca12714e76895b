"""The payment tokens of the simulated gateway, and what each of them makes it do.

Named as card processors name those of their test modes. `docs/gateway.md` lists them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


class FirstAnswer(Enum):
    """What becomes of the answer to the first request under a key. Later ones are answered."""

    GIVEN = "given"
    # The money moves at once, the answer comes late.
    LATE = "late"
    # No money moves and no answer comes; the next request moves it.
    LOST_BEFORE = "lost_before"
    # The money moves, but no answer comes; the next request is told of it.
    LOST_AFTER = "lost_after"


@dataclass(frozen=True)
class SimulatedToken:
    """What the gateway does with a token. An empty decline code means: it approves."""

    description: str
    charge: FirstAnswer = FirstAnswer.GIVEN
    charge_decline_code: str = ""
    refund: FirstAnswer = FirstAnswer.GIVEN
    refund_decline_code: str = ""


def _declined(code: str) -> SimulatedToken:
    return SimulatedToken(f"The charge is declined: `{code}`.", charge_decline_code=code)


TOKENS: Final[Mapping[str, SimulatedToken]] = MappingProxyType(
    {
        "tok_visa": SimulatedToken("The charge succeeds, and so do its refunds."),
        "tok_mastercard": SimulatedToken("The charge succeeds, and so do its refunds."),
        "tok_amex": SimulatedToken("The charge succeeds, and so do its refunds."),
        "tok_chargeDeclined": _declined("card_declined"),
        "tok_chargeDeclinedInsufficientFunds": _declined("insufficient_funds"),
        "tok_chargeDeclinedLostCard": _declined("lost_card"),
        "tok_chargeDeclinedStolenCard": _declined("stolen_card"),
        "tok_chargeDeclinedExpiredCard": _declined("expired_card"),
        "tok_chargeDeclinedIncorrectCvc": _declined("incorrect_cvc"),
        "tok_chargeDeclinedProcessingError": _declined("processing_error"),
        "tok_chargeDeclinedFraudulent": _declined("fraudulent"),
        "tok_slow": SimulatedToken(
            "The charge succeeds at once; the answer comes after"
            " `PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS`, or not at all if the caller's time is over"
            " before. A repeat is answered at once.",
            charge=FirstAnswer.LATE,
        ),
        "tok_timeoutBeforeCharge": SimulatedToken(
            "The first request is lost on its way: nothing is charged and no answer comes. A"
            " repeat charges.",
            charge=FirstAnswer.LOST_BEFORE,
        ),
        "tok_timeoutAfterCharge": SimulatedToken(
            "The first request charges, but its answer is lost. A repeat finds the charge.",
            charge=FirstAnswer.LOST_AFTER,
        ),
        "tok_errorThenSuccess": SimulatedToken(
            "The first request ends in an error of the gateway: nothing is charged. A repeat"
            " charges.",
            charge=FirstAnswer.LOST_BEFORE,
        ),
        "tok_refundFail": SimulatedToken(
            "The charge succeeds; each of its refunds is declined: `refund_failed`.",
            refund_decline_code="refund_failed",
        ),
        "tok_refundTimeoutAfter": SimulatedToken(
            "The charge succeeds. The first request for a refund gives the money back, but its"
            " answer is lost; a repeat finds the refund.",
            refund=FirstAnswer.LOST_AFTER,
        ),
        "tok_refundSlow": SimulatedToken(
            "The charge succeeds. A refund gives the money back at once; the answer comes after"
            " `PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS`.",
            refund=FirstAnswer.LATE,
        ),
    }
)

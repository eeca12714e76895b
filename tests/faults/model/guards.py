"""What keeps the money safe: every guard by name, to be taken away one at a time."""

from enum import Enum
from types import MappingProxyType
from typing import Final


class Guard(Enum):
    """A line of the protocol. Without it something must go wrong, or another stands behind it."""

    # The order service.
    ORDER_LOCK = "an order is locked before it is looked at"
    ORDER_REVISION = "an order is written only as it was read"
    NOTHING_IN_FLIGHT = "nothing else is in flight when an operation begins"
    ONE_OPERATION_INDEX = "the index allows one charge or cancellation, and one refund in flight"
    FULFIL_WAITS = "an order is not fulfilled while a refund is in flight"
    CHARGE_INTENT = "a charge is recorded before it is sent"
    REFUND_INTENT = "a refund is recorded before it is sent"
    WITHIN_WHAT_IS_LEFT = "no refund begins that is more than the order has left"
    UNKNOWN_OPERATION = "an operation without an answer has not failed"
    PENDING_NOT_STORED = "a reply that says pending is not stored"
    OPERATION_COMPARED = "an outcome is written only to an operation in flight"
    AUDIT_WITH_CHANGE = "the audit entry commits with the change"
    REPLY_WITH_CHANGE = "the reply commits with the outcome"
    CANCEL_SEALS = "a cancellation seals the order's payments"
    CANCEL_WAITS = "a cancellation waits for a pending payment"
    CANCEL_YIELDS = "a cancellation that finds the order's money makes the order paid"
    OWN_CALLER = "a charge is resolved under the caller it was sent under"
    MARK_ASKS = "an order is marked paid only by a payment that has succeeded"
    MARK_WAITS = "an order is not marked paid while an operation is in flight"
    INBOX = "a payment that the feed tells of is kept until it is applied"
    INBOX_WITH_CURSOR = "the inbox and the cursor commit together"
    INBOX_WAITS = "the inbox is not applied while an operation is in flight"
    REPLY_STORED = "a repeat gets the reply that was stored, not one computed anew"
    LEFT_BEHIND_SETTLED = "a worker settles the operations that callers leave behind"
    INBOX_APPLIED = "a worker applies the inbox"
    KEPT_IN_FLIGHT = "a key is not forgotten while its operation is in flight"
    KEPT_FROM_REPLY = "a key is kept for 24 hours from its reply, not from its claim"
    # The payment service.
    ONE_LIVE_PAYMENT = "a payment is void while another one of the order is live"
    ONE_LIVE_INDEX = "the index allows one live payment of an order"
    SEAL_COUNTS = "a payment of a sealed order is void"
    SEAL_LOCK = "seals and payments lock the order's row before they look"
    TOMBSTONE = "a charge that is resolved before it arrives is void for ever"
    UNKNOWN_PAYMENT = "a payment without an answer has not failed"
    PENDING_NOT_REPEATED = "a payment service's reply that says pending is computed anew"
    OUTCOME_COMPARED = "an answer is written only to a pending row"
    EVENT_WITH_CHANGE = "the event commits with the payment's outcome"
    SUM_CHECKED = "refunds that may succeed never add up to more than the payment"
    SUM_LOCKED = "refunds are added up under the payment's lock"
    ASKED_AGAIN = "a worker asks the gateway again about what is pending"
    SAME_GATEWAY_KEY = "what is sent again is sent under the same key"
    NO_OLD_KEY = "nothing is sent under an old key"
    LOOK_UP_FIRST = "the gateway is looked up before an operator's word counts"
    LAST_CALL_OVER = "an operator's word counts only when nothing is on its way any more"
    CONTRADICTION_WRITTEN = "a gateway that contradicts a final row is written down"
    WORD_IS_NO_CONTRADICTION = "an operator's word is not the gateway's contradiction"


# Taking away the first alone is safe, because the others stand behind it; all of them is not.
STANDS_BEHIND: Final = MappingProxyType(
    {
        Guard.ORDER_LOCK: (Guard.ORDER_REVISION,),
        Guard.ORDER_REVISION: (Guard.ORDER_LOCK,),
        Guard.NOTHING_IN_FLIGHT: (Guard.ONE_OPERATION_INDEX,),
        Guard.ONE_OPERATION_INDEX: (Guard.NOTHING_IN_FLIGHT,),
        Guard.CHARGE_INTENT: (Guard.INBOX_WITH_CURSOR,),
        Guard.WITHIN_WHAT_IS_LEFT: (Guard.SUM_CHECKED,),
        Guard.SUM_CHECKED: (Guard.WITHIN_WHAT_IS_LEFT,),
        Guard.SUM_LOCKED: (Guard.NOTHING_IN_FLIGHT, Guard.ONE_OPERATION_INDEX),
        Guard.ONE_LIVE_PAYMENT: (Guard.ONE_LIVE_INDEX,),
        Guard.ONE_LIVE_INDEX: (Guard.ONE_LIVE_PAYMENT,),
    }
)

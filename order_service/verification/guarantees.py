"""The guarantees, and what checks each of them."""

from collections.abc import Callable, Iterator
from typing import Final

from order_service.verification import histories, in_flight, money, replies
from order_service.verification.evidence import Evidence, KeyEvidence
from order_service.verification.report import Violation

OF_ORDERS: Final[tuple[tuple[str, Callable[[Evidence], Iterator[str]]], ...]] = (
    ("I1", money.taken_at_most_once),
    ("I1", money.charges_are_payments),
    ("I1", money.gateway_never_contradicted_itself),
    ("I2", money.paid_by_its_payment),
    ("I2", money.charged_as_operations_ended),
    ("I3", money.cancelled_for_good),
    ("I4", replies.operations_have_their_keys),
    ("I4", replies.payment_replies_are_true),
    ("I5", replies.keys_have_one_operation),
    ("I6", money.all_books_give_back_the_same),
    ("I6", money.refunds_stay_below_the_payment),
    ("I6", money.refunds_are_in_the_ledger),
    ("I6", money.refunded_as_operations_ended),
    ("I7", histories.orders_move_along_arrows),
    ("I7", histories.outcomes_have_their_entries),
    ("I7", histories.payments_move_along_arrows),
    ("I7", histories.seals_and_refusals_have_their_entries),
    ("I8", histories.successes_arrive),
    ("L1", in_flight.overdue),
)

OF_KEYS: Final[tuple[tuple[str, Callable[[KeyEvidence], Iterator[str]]], ...]] = (
    ("I4", replies.replies_are_true),
    ("I7", replies.refusals_have_their_entries),
)


def of_order(evidence: Evidence) -> Iterator[Violation]:
    """Find what is wrong with an order."""
    for guarantee, check in OF_ORDERS:
        for told in check(evidence):
            yield Violation(guarantee, evidence.order_id, told)


def of_key(evidence: KeyEvidence) -> Iterator[Violation]:
    """Find what is wrong with an idempotency key."""
    for guarantee, check in OF_KEYS:
        for told in check(evidence):
            yield Violation(guarantee, evidence.order_id, told)

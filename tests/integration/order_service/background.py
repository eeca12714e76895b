"""The background work of the order service over a database of the test's own."""

from collections.abc import Callable
from dataclasses import dataclass

from order_service.application.apply_payments import ApplyPayments
from order_service.application.forget_keys import ForgetKeys
from order_service.application.needs_human import NeedsHuman
from order_service.application.read_payments import ReadPayments
from order_service.application.settle_left_behind import SettleLeftBehind
from order_service.domain.order import Order
from order_service.domain.payment_operation import PaymentOperation
from service_kit.database import Database
from tests.integration.order_service.desk import Desk, open_desk

ROUNDS_MAX = 50


@dataclass(frozen=True)
class Background:
    """The workers of one process, run by the test instead of by threads."""

    desk: Desk
    settle: SettleLeftBehind
    read: ReadPayments
    apply: ApplyPayments
    forget: ForgetKeys
    needs_human: NeedsHuman

    def until_nothing_is_left(self, work: Callable[[], bool]) -> int:
        """Repeat one piece of work as its thread does, and return how often there was some."""
        for done in range(ROUNDS_MAX):
            if not work():
                return done
        raise AssertionError("it does not end")

    def pending(self, order: Order) -> PaymentOperation:
        """Read the operation in flight on an order."""
        pending = self.desk.order(order.id).pending
        assert pending is not None
        return pending


def open_background(database: Database, *, desk: Desk | None = None) -> Background:
    """Put the workers together as the service does; another desk stands for another process."""
    desk = desk or open_desk(database)
    store, payments, clock = desk.store, desk.payments, desk.clock
    return Background(
        desk=desk,
        settle=SettleLeftBehind(
            store=store, payments=payments, settlement=desk.settlement, clock=clock
        ),
        read=ReadPayments(store=store, payments=payments, clock=clock),
        apply=ApplyPayments(store=store, payments=payments, clock=clock),
        forget=ForgetKeys(store=store, clock=clock),
        needs_human=NeedsHuman(store=store, clock=clock),
    )

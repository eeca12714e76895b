"""End an order's payments, and tell of the one that counts."""

from dataclasses import dataclass

from payment_service.application.gateway_time import require_gateway_time
from payment_service.application.ports import Deadline, PaymentRecord, Store, Work
from payment_service.application.settlement import Settlement
from payment_service.domain.audit import Actor
from payment_service.domain.payment import Payment, seal_unpaid
from payment_service.domain.state_machine import LIVE_PAYMENT_STATUSES, PaymentAction
from service_kit.clock import Clock


class SealOrder:
    """Seals at once, even while a payment is pending: a late or repeated seal can do no harm."""

    actions = (PaymentAction.SUCCEED, PaymentAction.FAIL)

    @dataclass(frozen=True)
    class Command:
        """Which order."""

        actor: Actor
        order_id: str

    def __init__(self, *, store: Store, settlement: Settlement, clock: Clock) -> None:
        self._store = store
        self._settlement = settlement
        self._clock = clock

    def __call__(self, command: Command, deadline: Deadline) -> Payment | None:
        """Return the order's payment that is pending or succeeded, if there is one.

        Raises DeadlineTooShort.
        """
        require_gateway_time(deadline)
        record, ask = self._store.transact(lambda work: self._seal(work, command, deadline))
        if record and ask:
            record = self._settlement.settle_payment(record, by=command.actor, deadline=deadline)
        if record is None or record.payment.status not in LIVE_PAYMENT_STATUSES:
            return None
        return record.payment

    def _seal(
        self, work: Work, command: Command, deadline: Deadline
    ) -> tuple[PaymentRecord | None, bool]:
        """Seal the order and find its payment. Say whether this call is the one to ask."""
        order_id, actor, now = command.order_id, command.actor, self._clock.now()
        sealed = work.orders.lock(order_id)
        live = work.payments.live(order_id)
        if not sealed:
            work.orders.seal(order_id, at=now)
            work.audit.append(
                live.payment.seal(by=actor, at=now)
                if live
                else seal_unpaid(order_id, by=actor, at=now)
            )
        taken = self._settlement.take_payment(work, live, deadline) if live else None
        return taken or live, taken is not None

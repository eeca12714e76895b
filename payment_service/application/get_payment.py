"""Read one payment."""

from payment_service.application.ports import Store
from payment_service.domain.audit import Actor
from payment_service.domain.errors import PaymentNotFound
from payment_service.domain.payment import Payment
from service_kit.call import CUSTOMER


class GetPayment:
    """Reads a payment as it stands now."""

    def __init__(self, *, store: Store) -> None:
        self._store = store

    def __call__(self, payment_id: str, actor: Actor) -> Payment:
        """Return the payment. Raises PaymentNotFound, also if it is not this customer's."""
        record = self._store.read(lambda work: work.payments.get(payment_id))
        if record is None:
            raise PaymentNotFound(payment_id=payment_id)
        if actor.role == CUSTOMER and record.payment.customer_id != actor.id:
            raise PaymentNotFound(payment_id=payment_id)
        return record.payment

"""Requests to commands, payments to messages."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from checkout.money.v1 import money_pb2
from checkout.payment.v1 import payment_audit_pb2, payment_pb2, payment_service_pb2
from payment_service.application.list_payment_audit_entries import ListPaymentAuditEntries
from payment_service.application.list_payments import ListPayments
from payment_service.application.ports import PaymentFilter, StoredEntry
from payment_service.application.process_payment import ProcessPayment
from payment_service.application.refund_payment import RefundPayment
from payment_service.application.resolve_payment import ResolvePayment
from payment_service.application.seal_order import SealOrder
from payment_service.domain.audit import Actor
from payment_service.domain.errors import Refusal
from payment_service.domain.money import Money
from payment_service.domain.payment import Payment, VoidReason
from payment_service.domain.refund import Refund
from payment_service.domain.state_machine import PaymentStatus, RefundStatus
from payment_service.domain.ticket import PaymentTicket
from payment_service.rpc.errors import ERROR_TABLE
from payment_service.rpc.limits import PAGE_SIZE_DEFAULT, RULES
from service_kit.call import CUSTOMER, Call
from service_kit.errors import FieldViolation, InvalidRequest
from service_kit.idempotency.fingerprint import fingerprint
from service_kit.idempotency.record import KeyedRequest
from service_kit.paging import PageTokens
from service_kit.validation import violations

_STATUS: Final = {
    status: payment_pb2.PaymentStatus.Value(f"PAYMENT_STATUS_{status.name}")
    for status in PaymentStatus
}
_STATUS_BY_NUMBER: Final = {number: status for status, number in _STATUS.items()}
_REFUND_STATUS: Final = {
    status: payment_pb2.RefundStatus.Value(f"REFUND_STATUS_{status.name}")
    for status in RefundStatus
}
_VOID_REASON: Final = {
    reason: payment_pb2.VoidReason.Value(f"VOID_REASON_{reason.name}") for reason in VoidReason
}


class Codec:
    """Decodes requests and encodes payments; also the `Replies` port of the use cases.

    `read_ticket` verifies a payment ticket, `page_tokens` seals list positions.
    """

    def __init__(
        self, *, read_ticket: Callable[[str], PaymentTicket], page_tokens: PageTokens
    ) -> None:
        self._read_ticket = read_ticket
        self._page_tokens = page_tokens

    # Requests.

    def process_payment(
        self, request: payment_service_pb2.ProcessPaymentRequest, call: Call
    ) -> ProcessPayment.Command:
        """Decode ProcessPayment. Raises InvalidRequest, PaymentTicketInvalid."""
        _raise_any(violations(request, RULES))
        ticket = self._read_ticket(request.payment_ticket)
        return ProcessPayment.Command(
            request=_keyed(
                request,
                call,
                # What the ticket states, not how it is written.
                order_id=ticket.order_id,
                customer_id=ticket.customer_id,
                amount=_fields(ticket.amount),
                payment_token=request.payment_token,
            ),
            actor=_actor(call),
            ticket=ticket,
            payment_token=request.payment_token,
        )

    def get_payment(
        self, request: payment_service_pb2.GetPaymentRequest, call: Call
    ) -> tuple[str, Actor]:
        """Decode GetPayment. Raises InvalidRequest."""
        _raise_any(violations(request, RULES))
        return request.payment_id, _actor(call)

    def list_payments(
        self, request: payment_service_pb2.ListPaymentsRequest, call: Call
    ) -> ListPayments.Query:
        """Decode ListPayments. Raises InvalidRequest, InvalidPageToken."""
        _raise_any(_of_customer(request, call))
        before = ""
        if request.page_token:
            before = self._page_tokens.open(request.page_token, _scope(request, call))
        own = call.principal.id if call.principal.role == CUSTOMER else ""
        return ListPayments.Query(
            wanted=PaymentFilter(
                customer_id=request.customer_id or own,
                status=_STATUS_BY_NUMBER.get(request.status),
                order_id=request.order_id,
            ),
            before=before,
            page_size=request.page_size or PAGE_SIZE_DEFAULT,
        )

    def refund_payment(
        self, request: payment_service_pb2.RefundPaymentRequest, call: Call
    ) -> RefundPayment.Command:
        """Decode RefundPayment. Raises InvalidRequest."""
        _raise_any(violations(request, RULES))
        amount = Money(request.amount.currency_code, request.amount.minor_units)
        return RefundPayment.Command(
            request=_keyed(request, call, payment_id=request.payment_id, amount=_fields(amount)),
            actor=_actor(call),
            payment_id=request.payment_id,
            amount=amount,
        )

    def resolve_payment(
        self, request: payment_service_pb2.ResolvePaymentRequest, call: Call
    ) -> ResolvePayment.Command:
        """Decode ResolvePayment. Raises InvalidRequest."""
        _raise_any(violations(request, RULES))
        return ResolvePayment.Command(
            actor=_actor(call), order_id=request.order_id, key=request.payment_idempotency_key
        )

    def seal_order(
        self, request: payment_service_pb2.SealOrderRequest, call: Call
    ) -> SealOrder.Command:
        """Decode SealOrder. Raises InvalidRequest."""
        _raise_any(violations(request, RULES))
        return SealOrder.Command(actor=_actor(call), order_id=request.order_id)

    def list_payment_audit_entries(
        self, request: payment_service_pb2.ListPaymentAuditEntriesRequest
    ) -> ListPaymentAuditEntries.Query:
        """Decode ListPaymentAuditEntries. Raises InvalidRequest."""
        _raise_any(violations(request, RULES))
        return ListPaymentAuditEntries.Query(
            after=request.after_sequence,
            order_id=request.order_id,
            page_size=request.page_size or PAGE_SIZE_DEFAULT,
        )

    # Responses.

    def processed(self, payment: Payment) -> bytes:
        """Encode the success of ProcessPayment."""
        response = payment_service_pb2.ProcessPaymentResponse(payment=self.payment(payment))
        return response.SerializeToString(deterministic=True)

    def refunded(self, refund: Refund, payment: Payment) -> bytes:
        """Encode the success of RefundPayment."""
        response = payment_service_pb2.RefundPaymentResponse(
            refund=self.refund(refund), payment=self.payment(payment)
        )
        return response.SerializeToString(deterministic=True)

    def refusal(self, refusal: Refusal) -> bytes:
        """Encode a refusal as a google.rpc.Status."""
        status = ERROR_TABLE.status(refusal)
        assert status is not None
        return status.SerializeToString(deterministic=True)

    def payment(self, payment: Payment) -> payment_pb2.Payment:
        """Encode a payment as it stands."""
        return payment_pb2.Payment(
            id=payment.id,
            order_id=payment.order_id,
            customer_id=payment.customer_id,
            amount=_money(payment.amount) if payment.amount else None,
            refunded_amount=_money(payment.refunded) if payment.refunded else None,
            status=_STATUS[payment.status],
            decline_code=payment.decline_code,
            void_reason=(
                _VOID_REASON[payment.void_reason]
                if payment.void_reason
                else payment_pb2.VOID_REASON_UNSPECIFIED
            ),
            gateway=payment.gateway,
            create_time=_timestamp(payment.created_at),
            update_time=_timestamp(payment.updated_at),
        )

    def refund(self, refund: Refund) -> payment_pb2.Refund:
        """Encode a refund as it stands."""
        return payment_pb2.Refund(
            id=refund.id,
            payment_id=refund.payment_id,
            amount=_money(refund.amount),
            status=_REFUND_STATUS[refund.status],
            decline_code=refund.decline_code,
            create_time=_timestamp(refund.created_at),
        )

    def payments_page(
        self, page: ListPayments.Page, request: payment_service_pb2.ListPaymentsRequest, call: Call
    ) -> payment_service_pb2.ListPaymentsResponse:
        """Encode a page of payments."""
        token = ""
        if page.next_before:
            token = self._page_tokens.seal(_scope(request, call), page.next_before)
        return payment_service_pb2.ListPaymentsResponse(
            payments=[self.payment(payment) for payment in page.payments], next_page_token=token
        )


def audit_entry(stored: StoredEntry) -> payment_audit_pb2.PaymentAuditEntry:
    """Encode an audit entry."""
    entry = stored.entry
    return payment_audit_pb2.PaymentAuditEntry(
        sequence=stored.sequence,
        payment_id=entry.payment_id,
        order_id=entry.order_id,
        refund_id=entry.refund_id,
        actor_id=entry.actor.id,
        on_behalf_of=entry.actor.on_behalf_of,
        timestamp=_timestamp(entry.at),
        event_type=entry.event_type.value,
        from_status=entry.from_status,
        to_status=entry.to_status,
        outcome=entry.outcome.value,
        reason=entry.reason,
        trace_id=entry.actor.trace_id,
    )


def _keyed(request: Any, call: Call, **fields: object) -> KeyedRequest:
    method = call.method.rpartition("/")[2]
    return KeyedRequest(
        role=call.principal.role,
        caller=call.principal.id,
        key=request.idempotency_key,
        method=method,
        fingerprint=fingerprint(method, **fields),
    )


def _actor(call: Call) -> Actor:
    return Actor(
        role=call.principal.role,
        id=call.principal.id,
        on_behalf_of=call.on_behalf_of,
        trace_id=call.trace.trace_id,
    )


def _of_customer(request: Any, call: Call) -> list[FieldViolation]:
    found = violations(request, RULES)
    own = call.principal.role != CUSTOMER or request.customer_id in ("", call.principal.id)
    if not own and all(violation.field != "customer_id" for violation in found):
        found.append(FieldViolation("customer_id", "must be empty or the caller's own id"))
    return found


def _raise_any(found: list[FieldViolation]) -> None:
    if found:
        raise InvalidRequest(violations=found)


def _scope(request: payment_service_pb2.ListPaymentsRequest, call: Call) -> str:
    # Lengths are not needed: no field of these can hold a line break.
    return "\n".join(
        (
            call.method,
            call.principal.role,
            call.principal.id,
            request.customer_id,
            str(request.status),
            request.order_id,
        )
    )


def _fields(amount: Money) -> list[object]:
    return [amount.currency_code, amount.minor_units]


def _money(amount: Money) -> money_pb2.Money:
    return money_pb2.Money(currency_code=amount.currency_code, minor_units=amount.minor_units)


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp

"""The use cases over any store and gateway, put together as `bootstrap` does."""

import time
from datetime import timedelta

from payment_service.application.get_payment import GetPayment
from payment_service.application.list_payment_audit_entries import ListPaymentAuditEntries
from payment_service.application.list_payments import ListPayments
from payment_service.application.ports import Gateway, Store
from payment_service.application.process_payment import ProcessPayment
from payment_service.application.refund_payment import RefundPayment
from payment_service.application.resolve_payment import ResolvePayment
from payment_service.application.seal_order import SealOrder
from payment_service.application.settlement import Settlement
from payment_service.domain.money import Money
from payment_service.domain.ticket import PaymentTicket
from payment_service.rpc.codec import Codec
from payment_service.rpc.servicer import SERVICE, UseCases
from service_kit.call import Call, Principal
from service_kit.clock import SystemClock
from service_kit.idempotency.memory import NoReplyMemory
from service_kit.paging import PageTokens
from service_kit.tracing import TraceContext


def new_call(rpc: str, *, seconds: float = 10) -> Call:
    """Make a call of the order service, which acts for Alice."""
    return Call(
        method=f"/{SERVICE}/{rpc}",
        principal=Principal(role="order_service", id="order-service"),
        on_behalf_of="alice",
        trace=TraceContext.new(),
        deadline=time.monotonic() + seconds,
    )


def new_codec() -> Codec:
    """Make a codec that takes an order's id for its ticket; every order costs 40 euros."""
    return Codec(read_ticket=_ticket_of, page_tokens=PageTokens(b"k" * 32))


def _ticket_of(order_id: str) -> PaymentTicket:
    return PaymentTicket(order_id=order_id, customer_id="alice", amount=Money("EUR", 4000))


def wired(store: Store, gateway: Gateway, codec: Codec) -> UseCases:
    """Put the use cases together."""
    clock, memory = SystemClock(), NoReplyMemory()
    settlement = Settlement(
        store=store,
        gateway=gateway,
        replies=codec,
        clock=clock,
        key_age_max=timedelta(hours=12),
    )
    return UseCases(
        process_payment=ProcessPayment(
            store=store,
            memory=memory,
            gateway=gateway,
            settlement=settlement,
            replies=codec,
            clock=clock,
        ),
        get_payment=GetPayment(store=store),
        list_payments=ListPayments(store=store),
        refund_payment=RefundPayment(
            store=store, memory=memory, settlement=settlement, replies=codec, clock=clock
        ),
        resolve_payment=ResolvePayment(
            store=store, settlement=settlement, replies=codec, clock=clock
        ),
        seal_order=SealOrder(store=store, settlement=settlement, clock=clock),
        list_payment_audit_entries=ListPaymentAuditEntries(store=store),
    )

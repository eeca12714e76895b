"""The RPCs: decode, use case, encode."""

from dataclasses import dataclass
from typing import Final

import grpc

from checkout.payment.v1 import payment_service_pb2 as pb
from checkout.payment.v1 import payment_service_pb2_grpc
from payment_service.application.get_payment import GetPayment
from payment_service.application.list_payment_audit_entries import ListPaymentAuditEntries
from payment_service.application.list_payments import ListPayments
from payment_service.application.process_payment import ProcessPayment
from payment_service.application.refund_payment import RefundPayment
from payment_service.application.resolve_payment import ResolvePayment
from payment_service.application.seal_order import SealOrder
from payment_service.rpc.codec import Codec, audit_entry
from service_kit.call import current

SERVICE: Final = pb.DESCRIPTOR.services_by_name["PaymentService"].full_name


@dataclass(frozen=True)
class UseCases:
    """What the servicer can have done."""

    process_payment: ProcessPayment
    get_payment: GetPayment
    list_payments: ListPayments
    refund_payment: RefundPayment
    resolve_payment: ResolvePayment
    seal_order: SealOrder
    list_payment_audit_entries: ListPaymentAuditEntries


class PaymentServicer(payment_service_pb2_grpc.PaymentServiceServicer):
    """checkout.payment.v1.PaymentService."""

    def __init__(self, *, use_cases: UseCases, codec: Codec) -> None:
        self._use_cases = use_cases
        self._codec = codec

    def add_to(self, server: grpc.Server) -> None:
        """Have the server serve it."""
        payment_service_pb2_grpc.add_PaymentServiceServicer_to_server(self, server)

    def ProcessPayment(
        self, request: pb.ProcessPaymentRequest, context: grpc.ServicerContext
    ) -> pb.ProcessPaymentResponse:
        """See the contract."""
        command = self._codec.process_payment(request, current())
        reply = self._use_cases.process_payment(command, current())
        return reply.message(pb.ProcessPaymentResponse)

    def GetPayment(
        self, request: pb.GetPaymentRequest, context: grpc.ServicerContext
    ) -> pb.GetPaymentResponse:
        """See the contract."""
        payment_id, actor = self._codec.get_payment(request, current())
        payment = self._use_cases.get_payment(payment_id, actor)
        return pb.GetPaymentResponse(payment=self._codec.payment(payment))

    def ListPayments(
        self, request: pb.ListPaymentsRequest, context: grpc.ServicerContext
    ) -> pb.ListPaymentsResponse:
        """See the contract."""
        query = self._codec.list_payments(request, current())
        page = self._use_cases.list_payments(query)
        return self._codec.payments_page(page, request, current())

    def RefundPayment(
        self, request: pb.RefundPaymentRequest, context: grpc.ServicerContext
    ) -> pb.RefundPaymentResponse:
        """See the contract."""
        command = self._codec.refund_payment(request, current())
        reply = self._use_cases.refund_payment(command, current())
        return reply.message(pb.RefundPaymentResponse)

    def ResolvePayment(
        self, request: pb.ResolvePaymentRequest, context: grpc.ServicerContext
    ) -> pb.ResolvePaymentResponse:
        """See the contract."""
        command = self._codec.resolve_payment(request, current())
        payment = self._use_cases.resolve_payment(command, current())
        return pb.ResolvePaymentResponse(payment=self._codec.payment(payment))

    def SealOrder(
        self, request: pb.SealOrderRequest, context: grpc.ServicerContext
    ) -> pb.SealOrderResponse:
        """See the contract."""
        command = self._codec.seal_order(request, current())
        payment = self._use_cases.seal_order(command, current())
        return pb.SealOrderResponse(payment=self._codec.payment(payment) if payment else None)

    def ListPaymentAuditEntries(
        self, request: pb.ListPaymentAuditEntriesRequest, context: grpc.ServicerContext
    ) -> pb.ListPaymentAuditEntriesResponse:
        """See the contract."""
        query = self._codec.list_payment_audit_entries(request)
        entries = self._use_cases.list_payment_audit_entries(query)
        return pb.ListPaymentAuditEntriesResponse(entries=map(audit_entry, entries))

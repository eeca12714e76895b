"""The RPCs: decode, use case, encode."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import grpc

from checkout.order.v1 import order_service_pb2 as pb
from checkout.order.v1 import order_service_pb2_grpc
from order_service.application.archive_order import ArchiveOrder
from order_service.application.cancel_order import CancelOrder
from order_service.application.create_order import CreateOrder
from order_service.application.fulfill_order import FulfillOrder
from order_service.application.get_order import GetOrder
from order_service.application.list_order_audit_entries import ListOrderAuditEntries
from order_service.application.list_orders import ListOrders
from order_service.application.mark_order_paid import MarkOrderPaid
from order_service.application.pay_order import PayOrder
from order_service.application.refund_order import RefundOrder
from order_service.application.watch_order_events import WatchOrderEvents
from order_service.rpc.codec import Codec, audit_entry, order_event
from service_kit.call import current

SERVICE: Final = pb.DESCRIPTOR.services_by_name["OrderService"].full_name


@dataclass(frozen=True)
class UseCases:
    """What the servicer can have done."""

    create_order: CreateOrder
    get_order: GetOrder
    list_orders: ListOrders
    pay_order: PayOrder
    mark_order_paid: MarkOrderPaid
    cancel_order: CancelOrder
    fulfill_order: FulfillOrder
    refund_order: RefundOrder
    archive_order: ArchiveOrder
    list_order_audit_entries: ListOrderAuditEntries
    watch_order_events: WatchOrderEvents


class OrderServicer(order_service_pb2_grpc.OrderServiceServicer):
    """checkout.order.v1.OrderService."""

    def __init__(self, *, use_cases: UseCases, codec: Codec) -> None:
        self._use_cases = use_cases
        self._codec = codec

    def add_to(self, server: grpc.Server) -> None:
        """Have the server serve it."""
        order_service_pb2_grpc.add_OrderServiceServicer_to_server(self, server)

    def CreateOrder(
        self, request: pb.CreateOrderRequest, context: grpc.ServicerContext
    ) -> pb.CreateOrderResponse:
        """See the contract."""
        command = self._codec.create_order(request, current())
        reply = self._use_cases.create_order(command)
        return reply.message(pb.CreateOrderResponse)

    def GetOrder(
        self, request: pb.GetOrderRequest, context: grpc.ServicerContext
    ) -> pb.GetOrderResponse:
        """See the contract."""
        order_id, actor = self._codec.get_order(request, current())
        order = self._use_cases.get_order(order_id, actor)
        return pb.GetOrderResponse(order=self._codec.order(order))

    def ListOrders(
        self, request: pb.ListOrdersRequest, context: grpc.ServicerContext
    ) -> pb.ListOrdersResponse:
        """See the contract."""
        query = self._codec.list_orders(request, current())
        page = self._use_cases.list_orders(query)
        return self._codec.orders_page(page, request, current())

    def PayOrder(
        self, request: pb.PayOrderRequest, context: grpc.ServicerContext
    ) -> pb.PayOrderResponse:
        """See the contract."""
        command = self._codec.pay_order(request, current())
        reply = self._use_cases.pay_order(command)
        return reply.message(pb.PayOrderResponse)

    def MarkOrderPaid(
        self, request: pb.MarkOrderPaidRequest, context: grpc.ServicerContext
    ) -> pb.MarkOrderPaidResponse:
        """See the contract."""
        command = self._codec.mark_order_paid(request, current())
        reply = self._use_cases.mark_order_paid(command)
        return reply.message(pb.MarkOrderPaidResponse)

    def CancelOrder(
        self, request: pb.CancelOrderRequest, context: grpc.ServicerContext
    ) -> pb.CancelOrderResponse:
        """See the contract."""
        command = self._codec.change_order(request, current())
        reply = self._use_cases.cancel_order(command)
        return reply.message(pb.CancelOrderResponse)

    def FulfillOrder(
        self, request: pb.FulfillOrderRequest, context: grpc.ServicerContext
    ) -> pb.FulfillOrderResponse:
        """See the contract."""
        command = self._codec.change_order(request, current())
        reply = self._use_cases.fulfill_order(command)
        return reply.message(pb.FulfillOrderResponse)

    def RefundOrder(
        self, request: pb.RefundOrderRequest, context: grpc.ServicerContext
    ) -> pb.RefundOrderResponse:
        """See the contract."""
        command = self._codec.refund_order(request, current())
        reply = self._use_cases.refund_order(command)
        return reply.message(pb.RefundOrderResponse)

    def ArchiveOrder(
        self, request: pb.ArchiveOrderRequest, context: grpc.ServicerContext
    ) -> pb.ArchiveOrderResponse:
        """See the contract."""
        command = self._codec.change_order(request, current())
        reply = self._use_cases.archive_order(command)
        return reply.message(pb.ArchiveOrderResponse)

    def ListOrderAuditEntries(
        self, request: pb.ListOrderAuditEntriesRequest, context: grpc.ServicerContext
    ) -> pb.ListOrderAuditEntriesResponse:
        """See the contract."""
        query = self._codec.list_order_audit_entries(request)
        entries = self._use_cases.list_order_audit_entries(query)
        return pb.ListOrderAuditEntriesResponse(entries=map(audit_entry, entries))

    def WatchOrderEvents(
        self, request: pb.WatchOrderEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchOrderEventsResponse]:
        """See the contract."""
        query = self._codec.watch_order_events(request)
        events = self._use_cases.watch_order_events(query, current().open_stream())
        return map(order_event, events)

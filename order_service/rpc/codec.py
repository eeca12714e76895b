"""Requests to commands, orders to messages."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from checkout.money.v1 import money_pb2
from checkout.order.v1 import order_audit_pb2, order_pb2, order_service_pb2
from order_service.application.create_order import CreateOrder
from order_service.application.list_order_audit_entries import ListOrderAuditEntries
from order_service.application.list_orders import ListOrders
from order_service.application.mark_order_paid import MarkOrderPaid
from order_service.application.once import ChangeOrder
from order_service.application.pay_order import PayOrder
from order_service.application.ports import OrderFilter, StoredEntry
from order_service.application.refund_order import RefundOrder
from order_service.application.watch_order_events import Heartbeat, WatchOrderEvents
from order_service.domain.audit import Actor
from order_service.domain.errors import Refusal
from order_service.domain.money import Money
from order_service.domain.order import Order, OrderItem
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderStatus
from order_service.rpc.errors import ERROR_TABLE
from order_service.rpc.limits import PAGE_BYTES_MAX, PAGE_SIZE_DEFAULT, RULES, TOTAL_MAX
from service_kit.call import CUSTOMER, Call
from service_kit.errors import FieldViolation, InvalidRequest
from service_kit.idempotency.fingerprint import fingerprint
from service_kit.idempotency.record import KeyedRequest
from service_kit.paging import PageTokens
from service_kit.validation import violations

_STATUS: Final = {
    status: order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status.name}") for status in OrderStatus
}
_STATUS_BY_NUMBER: Final = {number: status for status, number in _STATUS.items()}
_KIND: Final = {
    kind: order_pb2.PaymentOperationKind.Value(f"PAYMENT_OPERATION_KIND_{kind.name}")
    for kind in OperationKind
}

# Every mutating method answers with the order.
_RESPONSES: Final[dict[str, Callable[..., Message]]] = {
    "CreateOrder": order_service_pb2.CreateOrderResponse,
    "PayOrder": order_service_pb2.PayOrderResponse,
    "MarkOrderPaid": order_service_pb2.MarkOrderPaidResponse,
    "CancelOrder": order_service_pb2.CancelOrderResponse,
    "FulfillOrder": order_service_pb2.FulfillOrderResponse,
    "RefundOrder": order_service_pb2.RefundOrderResponse,
    "ArchiveOrder": order_service_pb2.ArchiveOrderResponse,
}


class Codec:
    """Decodes requests and encodes orders; also the `Replies` port of the use cases.

    `sign_ticket` makes an order's payment ticket, `page_tokens` seals list positions.
    """

    def __init__(self, *, sign_ticket: Callable[[Order], str], page_tokens: PageTokens) -> None:
        self._sign_ticket = sign_ticket
        self._page_tokens = page_tokens

    # Requests.

    def create_order(
        self, request: order_service_pb2.CreateOrderRequest, call: Call
    ) -> CreateOrder.Command:
        """Decode CreateOrder. Raises InvalidRequest with everything that is wrong."""
        found = _of_customer(request, call)
        if call.principal.role != CUSTOMER and not request.customer_id:
            found.append(FieldViolation("customer_id", "is required from a service"))
        items = tuple(
            OrderItem(
                sku=item.sku,
                name=item.name,
                quantity=item.quantity,
                unit_price=_money(item.unit_price),
            )
            for item in request.items
        )
        # Sums of fields that are wrong themselves would only confuse.
        _raise_any(found or _totals(items))
        customer_id = request.customer_id or call.principal.id
        return CreateOrder.Command(
            request=_keyed(
                request,
                call,
                customer_id=customer_id,
                items=[
                    [
                        i.sku,
                        i.name,
                        i.quantity,
                        i.unit_price.currency_code,
                        i.unit_price.minor_units,
                    ]
                    for i in items
                ],
            ),
            actor=_actor(call),
            customer_id=customer_id,
            items=items,
        )

    def get_order(
        self, request: order_service_pb2.GetOrderRequest, call: Call
    ) -> tuple[str, Actor]:
        """Decode GetOrder. Raises InvalidRequest."""
        _raise_any(violations(request, RULES))
        return request.order_id, _actor(call)

    def list_orders(
        self, request: order_service_pb2.ListOrdersRequest, call: Call
    ) -> ListOrders.Query:
        """Decode ListOrders. Raises InvalidRequest, InvalidPageToken."""
        _raise_any(_of_customer(request, call))
        before = ""
        if request.page_token:
            before = self._page_tokens.open(request.page_token, _scope(request, call))
        own = call.principal.id if call.principal.role == CUSTOMER else ""
        return ListOrders.Query(
            wanted=OrderFilter(
                customer_id=request.customer_id or own,
                status=_STATUS_BY_NUMBER.get(request.status),
            ),
            before=before,
            page_size=request.page_size or PAGE_SIZE_DEFAULT,
        )

    def pay_order(self, request: order_service_pb2.PayOrderRequest, call: Call) -> PayOrder.Command:
        """Decode PayOrder. Raises InvalidRequest."""
        return PayOrder.Command(
            **_change(request, call, payment_token=request.payment_token),
            payment_token=request.payment_token,
        )

    def mark_order_paid(
        self, request: order_service_pb2.MarkOrderPaidRequest, call: Call
    ) -> MarkOrderPaid.Command:
        """Decode MarkOrderPaid. Raises InvalidRequest."""
        return MarkOrderPaid.Command(
            **_change(request, call, transaction_id=request.transaction_id),
            payment_id=request.transaction_id,
        )

    def refund_order(
        self, request: order_service_pb2.RefundOrderRequest, call: Call
    ) -> RefundOrder.Command:
        """Decode RefundOrder. Raises InvalidRequest."""
        amount = _money(request.amount) if request.HasField("amount") else None
        wanted = [amount.currency_code, amount.minor_units] if amount else None
        return RefundOrder.Command(**_change(request, call, amount=wanted), amount=amount)

    def change_order(
        self,
        request: order_service_pb2.CancelOrderRequest
        | order_service_pb2.FulfillOrderRequest
        | order_service_pb2.ArchiveOrderRequest,
        call: Call,
    ) -> ChangeOrder:
        """Decode a change that names only the order. Raises InvalidRequest."""
        return ChangeOrder(**_change(request, call))

    def list_order_audit_entries(
        self, request: order_service_pb2.ListOrderAuditEntriesRequest
    ) -> ListOrderAuditEntries.Query:
        """Decode ListOrderAuditEntries. Raises InvalidRequest."""
        _raise_any(violations(request, RULES))
        return ListOrderAuditEntries.Query(
            after=request.after_sequence,
            order_id=request.order_id,
            page_size=request.page_size or PAGE_SIZE_DEFAULT,
        )

    def watch_order_events(
        self, request: order_service_pb2.WatchOrderEventsRequest
    ) -> WatchOrderEvents.Query:
        """Decode WatchOrderEvents. Raises InvalidRequest."""
        _raise_any(violations(request, RULES))
        return WatchOrderEvents.Query(after=request.after_sequence, order_id=request.order_id)

    # Responses.

    def response(self, method: str, order: Order) -> bytes:
        """Encode the success of a mutating method."""
        return _RESPONSES[method](order=self.order(order)).SerializeToString(deterministic=True)

    def refusal(self, refusal: Refusal) -> bytes:
        """Encode a refusal as a google.rpc.Status."""
        status = ERROR_TABLE.status(refusal)
        assert status is not None
        return bytes(status.SerializeToString(deterministic=True))

    def order(self, order: Order) -> order_pb2.Order:
        """Encode an order as it stands."""
        created = order.status is OrderStatus.CREATED
        pending = None
        if order.pending:
            pending = order_pb2.PendingOperation(
                kind=_KIND[order.pending.kind], start_time=_timestamp(order.pending.started_at)
            )
        return order_pb2.Order(
            id=order.id,
            customer_id=order.customer_id,
            status=_STATUS[order.status],
            items=[
                order_pb2.OrderItem(
                    sku=item.sku,
                    name=item.name,
                    quantity=item.quantity,
                    unit_price=_amount(item.unit_price),
                    line_total=_amount(item.line_total),
                )
                for item in order.items
            ],
            total_amount=_amount(order.total),
            payment_transaction_id=order.payment_id,
            refunded_amount=_amount(order.refunded),
            payment_ticket=self._sign_ticket(order) if created else "",
            pending_operation=pending,
            etag=order.etag,
            create_time=_timestamp(order.created_at),
            update_time=_timestamp(order.updated_at),
        )

    def orders_page(
        self, page: ListOrders.Page, request: order_service_pb2.ListOrdersRequest, call: Call
    ) -> order_service_pb2.ListOrdersResponse:
        """Encode a page of orders, as many of them as fit."""
        orders: list[order_pb2.Order] = []
        size, next_before = 0, page.next_before
        for order in map(self.order, page.orders):
            size += order.ByteSize()
            if size > PAGE_BYTES_MAX:
                next_before = orders[-1].id
                break
            orders.append(order)
        token = self._page_tokens.seal(_scope(request, call), next_before) if next_before else ""
        return order_service_pb2.ListOrdersResponse(orders=orders, next_page_token=token)


def audit_entry(stored: StoredEntry) -> order_audit_pb2.OrderAuditEntry:
    """Encode an audit entry."""
    entry = stored.entry
    return order_audit_pb2.OrderAuditEntry(
        sequence=stored.sequence,
        order_id=entry.order_id,
        actor_id=entry.actor.id,
        on_behalf_of=entry.actor.on_behalf_of,
        timestamp=_timestamp(entry.at),
        event_type=entry.event_type.value,
        from_status=entry.from_status,
        to_status=entry.to_status,
        outcome=entry.outcome.value,
        reason=entry.reason,
        trace_id=entry.actor.trace_id,
        payment_transaction_id=entry.payment_id,
    )


def order_event(event: StoredEntry | Heartbeat) -> order_service_pb2.WatchOrderEventsResponse:
    """Encode what a watcher is told."""
    entry = audit_entry(event) if isinstance(event, StoredEntry) else None
    return order_service_pb2.WatchOrderEventsResponse(
        entry=entry, resume_after_sequence=event.sequence
    )


def _change(request: Any, call: Call, **fields: object) -> dict[str, Any]:
    _raise_any(violations(request, RULES))
    return {
        "request": _keyed(request, call, order_id=request.order_id, etag=request.etag, **fields),
        "actor": _actor(call),
        "order_id": request.order_id,
        "etag": request.etag,
    }


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


def _totals(items: tuple[OrderItem, ...]) -> list[FieldViolation]:
    currencies = {item.unit_price.currency_code for item in items}
    if len(currencies) > 1:
        return [FieldViolation("items", "must all be in one currency")]
    total = sum(item.line_total.minor_units for item in items)
    if not 1 <= total <= TOTAL_MAX:
        return [FieldViolation("items", f"must have a total from 1 to {TOTAL_MAX:,} minor units")]
    return []


def _raise_any(found: list[FieldViolation]) -> None:
    if found:
        raise InvalidRequest(violations=found)


def _scope(request: order_service_pb2.ListOrdersRequest, call: Call) -> str:
    principal = call.principal
    # Lengths are not needed: no field of these can hold a line break.
    return "\n".join(
        (call.method, principal.role, principal.id, request.customer_id, str(request.status))
    )


def _money(amount: money_pb2.Money) -> Money:
    return Money(amount.currency_code, amount.minor_units)


def _amount(amount: Money) -> money_pb2.Money:
    return money_pb2.Money(currency_code=amount.currency_code, minor_units=amount.minor_units)


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp

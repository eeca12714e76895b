"""The payment service, as the order service sees it. No RpcError leaves this module."""

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

import grpc
import structlog
from grpc_health.v1 import health_pb2

from checkout.money.v1 import money_pb2
from checkout.payment.v1 import payment_pb2, payment_service_pb2, payment_service_pb2_grpc
from order_service.application.ports import (
    ChargeAnswer,
    Declined,
    NoPayment,
    PaymentFacts,
    PaymentPage,
    ReceivedPayment,
    RefundAnswer,
    Refunded,
    RefundRefused,
    Rejected,
    SealAnswer,
    Succeeded,
    Unknown,
    Voided,
)
from order_service.domain.audit import Actor
from order_service.domain.errors import (
    PaymentNotFound,
    PaymentServiceUnavailable,
    RefundDeclined,
    RefundExceedsPayment,
)
from order_service.domain.money import Money
from order_service.domain.order import Order
from order_service.domain.payment_operation import PaymentOperation
from order_service.gateways.credentials import CLAIMED, Metadata
from service_kit import call
from service_kit.database import transaction_is_open
from service_kit.errors import FieldViolation
from service_kit.status import refusal_of

# Left over for this service to write the outcome down.
RESERVE_SECONDS: Final = 0.5
TIMEOUT_MAX_SECONDS: Final = 8.0

# What another attempt may answer differently: a service that is away, or that has no place for
# the call. Every call is idempotent by its id, and anything else would be answered the same again.
_SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "checkout.payment.v1.PaymentService"}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
)

_OPTIONS: Final = (
    # Payment tokens go to the payment service and to no proxy, whatever the environment names.
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config", _SERVICE_CONFIG),
    # A connection that looks alive and is not is given up after 15 s: nothing is in flight for
    # longer than 30 s. A ping that gRPC sends for its own ends must not hold the others back.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 5_000),
    # A payment service that comes back, or that starts after this one, is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)

_UNREACHABLE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
# A repeat is refused likewise, and a question of ours that is refused so is a bug: somebody
# has to look.
_DEFINITIVE: Final = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INTERNAL,
)

_PAYMENT_SUCCEEDED: Final = "payment_succeeded"
_FEED_PAGE_SIZE: Final = 100
_HEALTH_SECONDS: Final = 1.0
_NOBODY: Final = Actor(role="", id="", on_behalf_of="", trace_id="")

_STATUS: Final = {
    payment_pb2.PAYMENT_STATUS_PENDING: "pending",
    payment_pb2.PAYMENT_STATUS_SUCCEEDED: "succeeded",
    payment_pb2.PAYMENT_STATUS_FAILED: "failed",
    payment_pb2.PAYMENT_STATUS_VOIDED: "voided",
}

R = TypeVar("R")


def open_channel(target: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """Open a channel to the payment service at `host:port`, without credentials in plaintext."""
    if credentials is None:
        # nosemgrep: plaintext-channel - the settings allowed it
        return grpc.insecure_channel(target, options=_OPTIONS)
    return grpc.secure_channel(target, credentials, options=_OPTIONS)


class GrpcPayments:
    """Calls the payment service as the one principal `order-service`.

    The person acted for goes along for the audit trail only: a charge and the question what
    became of it must come from the same caller, whoever waits for the answer. `identify` makes the
    metadata that says who that is.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        sign_ticket: Callable[[Order], str],
        identify: Callable[[], Metadata] = lambda: CLAIMED,
    ) -> None:
        self._stub = payment_service_pb2_grpc.PaymentServiceStub(channel)
        self._check_health = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        self._ticket = sign_ticket
        self._identify = identify
        self._log = structlog.get_logger()
        self._broken = False
        channel.subscribe(self._watch, try_to_connect=True)

    def require_available(self) -> None:
        """Raise PaymentServiceUnavailable if the connection is known to be broken."""
        if self._broken:
            raise PaymentServiceUnavailable

    def charge(
        self, operation: PaymentOperation, order: Order, *, payment_token: str
    ) -> ChargeAnswer | Rejected:
        """Charge the order's total under the operation's id."""
        request = payment_service_pb2.ProcessPaymentRequest(
            idempotency_key=operation.id,
            payment_ticket=self._ticket(order),
            payment_token=payment_token,
        )
        try:
            response = self._call(self._stub.ProcessPayment, request, operation.actor)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            if refusal.code is grpc.StatusCode.INVALID_ARGUMENT and refusal.reason:
                wrong = FieldViolation("payment_token", refusal.message)
                return Rejected(refusal.violations or (wrong,))
            return self._unknown("ProcessPayment", error)
        return _charge_answer(response.payment)

    def resolve(self, operation: PaymentOperation) -> ChargeAnswer:
        """Ask what became of a charge; one that has not arrived never will."""
        request = payment_service_pb2.ResolvePaymentRequest(
            order_id=operation.order_id, payment_idempotency_key=operation.id
        )
        try:
            response = self._call(self._stub.ResolvePayment, request, operation.actor)
        except grpc.RpcError as error:
            return self._unknown("ResolvePayment", error)
        return _charge_answer(response.payment)

    def seal(self, operation: PaymentOperation) -> SealAnswer:
        """Let no payment of the order start any more, and ask for the one there is."""
        request = payment_service_pb2.SealOrderRequest(order_id=operation.order_id)
        try:
            response = self._call(self._stub.SealOrder, request, operation.actor)
        except grpc.RpcError as error:
            return self._unknown("SealOrder", error)
        if not response.HasField("payment"):
            return NoPayment()
        match _facts(response.payment):
            case PaymentFacts(status="succeeded") as payment:
                return Succeeded(payment)
            case PaymentFacts(status="failed" | "voided"):
                return NoPayment()
            case _:
                return Unknown()

    def refund(self, operation: PaymentOperation) -> RefundAnswer:
        """Give the operation's amount back under its id."""
        amount = operation.amount
        assert amount is not None
        request = payment_service_pb2.RefundPaymentRequest(
            idempotency_key=operation.id,
            payment_id=operation.payment_id,
            amount=money_pb2.Money(
                currency_code=amount.currency_code, minor_units=amount.minor_units
            ),
        )
        try:
            response = self._call(self._stub.RefundPayment, request, operation.actor)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            if refusal.reason == "REFUND_EXCEEDS_PAYMENT":
                return RefundRefused(
                    RefundExceedsPayment(
                        payment_id=operation.payment_id,
                        currency_code=amount.currency_code,
                        refundable=int(refusal.metadata["refundable_minor_units"]),
                        requested=amount.minor_units,
                    )
                )
            return self._unknown("RefundPayment", error)
        if response.refund.status == payment_pb2.REFUND_STATUS_SUCCEEDED:
            return Refunded()
        if response.refund.status == payment_pb2.REFUND_STATUS_FAILED:
            return RefundRefused(
                RefundDeclined(
                    order_id=operation.order_id, decline_code=response.refund.decline_code
                )
            )
        return Unknown()

    def get(self, payment_id: str, *, by: Actor) -> PaymentFacts:
        """Read a payment. Raises PaymentNotFound, PaymentServiceUnavailable."""
        request = payment_service_pb2.GetPaymentRequest(payment_id=payment_id)
        try:
            response = self._call(self._stub.GetPayment, request, by)
        except grpc.RpcError as error:
            if refusal_of(error).reason == "PAYMENT_NOT_FOUND":
                raise PaymentNotFound(payment_id=payment_id) from None
            self._unknown("GetPayment", error)
            raise PaymentServiceUnavailable from None
        return _facts(response.payment)

    def succeeded_since(self, sequence: int) -> PaymentPage:
        """Read a page of the payment history. Raises PaymentServiceUnavailable."""
        request = payment_service_pb2.ListPaymentAuditEntriesRequest(
            after_sequence=sequence, page_size=_FEED_PAGE_SIZE
        )
        try:
            response = self._call(self._stub.ListPaymentAuditEntries, request, _NOBODY)
        except grpc.RpcError as error:
            self._unknown("ListPaymentAuditEntries", error)
            raise PaymentServiceUnavailable from None
        succeeded = (e for e in response.entries if e.event_type == _PAYMENT_SUCCEEDED)
        return PaymentPage(
            last_sequence=response.entries[-1].sequence if response.entries else sequence,
            payments=tuple(ReceivedPayment(e.payment_id, e.order_id) for e in succeeded),
            is_last=len(response.entries) < _FEED_PAGE_SIZE,
        )

    def answers(self) -> bool:
        """Ask the payment service for its health."""
        request = health_pb2.HealthCheckRequest()
        try:
            response = self._check_health(request, timeout=_HEALTH_SECONDS)
        except grpc.RpcError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    def _call(self, method: Callable[..., R], request: Any, actor: Actor) -> R:
        if transaction_is_open():
            raise AssertionError("a remote call inside a transaction")
        serving = call.current()
        timeout = min(serving.remaining_seconds() - RESERVE_SECONDS, TIMEOUT_MAX_SECONDS)
        metadata = [*self._identify(), ("traceparent", serving.trace.traceparent())]
        if person := actor.on_behalf_of or actor.id:
            metadata.append(("x-on-behalf-of", person))
        return method(request, timeout=max(timeout, 0.0), metadata=metadata)

    def _unknown(self, method: str, error: grpc.RpcError) -> Unknown:
        refusal = refusal_of(error)
        self._log.warning(
            "payments.unanswered",
            method=method,
            code=refusal.code.name,
            reason=refusal.reason,
            problem=refusal.message,
            trace_id=call.current().trace.trace_id,
        )
        return Unknown(
            unreachable=refusal.code in _UNREACHABLE,
            problem=refusal.reason if refusal.code in _DEFINITIVE else "",
        )

    def _watch(self, connectivity: grpc.ChannelConnectivity) -> None:
        self._broken = connectivity is grpc.ChannelConnectivity.TRANSIENT_FAILURE


def _charge_answer(payment: payment_pb2.Payment) -> ChargeAnswer:
    facts = _facts(payment)
    match facts.status:
        case "succeeded":
            return Succeeded(facts)
        case "failed":
            return Declined(facts)
        case "voided":
            return Voided(facts)
        case _:
            return Unknown()


def _facts(payment: payment_pb2.Payment) -> PaymentFacts:
    amount = None
    if payment.HasField("amount"):
        amount = Money(payment.amount.currency_code, payment.amount.minor_units)
    return PaymentFacts(
        id=payment.id,
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        # A status that this version does not know is not an outcome yet.
        status=_STATUS.get(payment.status, "pending"),
        amount=amount,
        decline_code=payment.decline_code,
    )

"""The payment service's answers, translated; grpcio-testing plays the payment service."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import grpc
import grpc_testing
import pytest
from google.protobuf.message import Message
from grpc_status import rpc_status

from checkout.payment.v1 import payment_pb2
from checkout.payment.v1 import payment_service_pb2 as pb
from order_service.application.ports import (
    Declined,
    NoPayment,
    PaymentFacts,
    Refunded,
    RefundRefused,
    Rejected,
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
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderStatus
from order_service.gateways.payments import GrpcPayments
from service_kit.call import serving
from service_kit.database import Database
from service_kit.errors import FieldViolation
from service_kit.status import Status, bad_request, build_status
from tests.builders import money
from tests.unit.order_service.builders import (
    ALICE,
    OLGA,
    SHOP,
    TRACE_ID,
    eur,
    new_call,
    new_operation,
    new_order,
)

_RPCS = pb.DESCRIPTOR.services_by_name["PaymentService"].methods_by_name


class PaymentService:
    """A channel to grpcio-testing's fake service: answers calls as it was told, in order.

    It adds what that channel lacks: connectivity, and the timeouts of calls.
    """

    def __init__(self) -> None:
        self._channel = grpc_testing.channel(
            pb.DESCRIPTOR.services_by_name.values(), grpc_testing.strict_fake_time(0)
        )
        self._answers: deque[tuple[Message | None, Sequence[Any], grpc.StatusCode, str]] = deque()
        self._watchers: list[Callable[[grpc.ChannelConnectivity], None]] = []
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.timeouts: list[float] = []

    def answers(self, response: Message) -> None:
        """Answer the next call with a response."""
        self._answers.append((response, (), grpc.StatusCode.OK, ""))

    def refuses(self, status: Status) -> None:
        """Refuse the next call with details."""
        packed = rpc_status.to_status(status)
        self._answers.append((None, packed.trailing_metadata, packed.code, packed.details))

    def fails(self, code: grpc.StatusCode) -> None:
        """Fail the next call as gRPC does: without details."""
        self._answers.append((None, (), code, "said by the transport"))

    def becomes(self, connectivity: grpc.ChannelConnectivity) -> None:
        """Tell whoever watches the connection."""
        for watcher in self._watchers:
            watcher(connectivity)

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], **_: Any) -> None:
        """Fill grpc.Channel's interface."""
        self._watchers.append(callback)

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """Fill grpc.Channel's interface."""
        call = self._channel.unary_unary(method)

        def answered(
            request: Message, *, timeout: float, metadata: Sequence[tuple[str, str]]
        ) -> Any:
            self.timeouts.append(timeout)
            self.metadata.append(dict(metadata))
            threading.Thread(target=self._answer, args=(method,)).start()
            return call(request, timeout=timeout, metadata=metadata)

        return answered

    def _answer(self, method: str) -> None:
        _, request, rpc = self._channel.take_unary_unary(_RPCS[method.rpartition("/")[2]])
        self.requests.append(request)
        rpc.terminate(*self._answers.popleft())


@pytest.fixture
def service() -> PaymentService:
    return PaymentService()


@pytest.fixture
def payments(service: PaymentService) -> Iterator[GrpcPayments]:
    """The gateway under test, with a call being served that has 30 seconds left."""
    with serving(new_call("PayOrder", SHOP, seconds=30)):
        yield GrpcPayments(
            cast("grpc.Channel", service), sign_ticket=lambda order: f"ticket of {order.id}"
        )


PAYMENT = payment_pb2.Payment(id="pay_1", order_id="ord_1", customer_id="alice", amount=money(4000))


def payment_in(status: int, **fields: Any) -> payment_pb2.Payment:
    payment = payment_pb2.Payment(status=cast("Any", status), **fields)
    payment.MergeFrom(PAYMENT)
    return payment


def facts(status: str, **fields: Any) -> PaymentFacts:
    found = PaymentFacts(
        id="pay_1", order_id="ord_1", customer_id="alice", status=status, amount=eur(4000)
    )
    return replace(found, **fields)


def refusal(
    code: grpc.StatusCode,
    reason: str,
    *violations: FieldViolation,
    **metadata: str,
) -> Status:
    details = [bad_request(violations)] if violations else []
    return build_status(code, reason=reason, message="so", metadata=metadata, details=details)


ORDER = new_order(id="ord_1")
PAID = replace(ORDER, status=OrderStatus.PAID, payment_id="pay_1")
CHARGE = new_operation(OperationKind.CHARGE, order=ORDER)
CANCEL = new_operation(OperationKind.CANCEL, order=ORDER)
REFUND = new_operation(OperationKind.REFUND, order=PAID, amount=eur(1500))

CALLS: dict[str, Callable[[GrpcPayments], object]] = {
    "charge": lambda payments: payments.charge(CHARGE, ORDER, payment_token="tok_visa"),
    "resolve": lambda payments: payments.resolve(CHARGE),
    "seal": lambda payments: payments.seal(CANCEL),
    "refund": lambda payments: payments.refund(REFUND),
}
NO_ANSWERS = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.PERMISSION_DENIED,
]


class TestCharge:
    @pytest.mark.parametrize(
        ("payment", "outcome"),
        [
            (payment_in(payment_pb2.PAYMENT_STATUS_SUCCEEDED), Succeeded(facts("succeeded"))),
            (
                payment_in(payment_pb2.PAYMENT_STATUS_FAILED, decline_code="lost_card"),
                Declined(facts("failed", decline_code="lost_card")),
            ),
            (payment_in(payment_pb2.PAYMENT_STATUS_VOIDED), Voided(facts("voided"))),
            (payment_in(payment_pb2.PAYMENT_STATUS_PENDING), Unknown()),
            (payment_in(payment_pb2.PAYMENT_STATUS_UNSPECIFIED), Unknown()),
            (payment_in(99), Unknown()),
        ],
        ids=["succeeded", "failed", "voided", "pending", "unspecified", "from the future"],
    )
    def test_ends_as_the_payment_did(
        self,
        service: PaymentService,
        payments: GrpcPayments,
        payment: payment_pb2.Payment,
        outcome: object,
    ) -> None:
        service.answers(pb.ProcessPaymentResponse(payment=payment))
        assert payments.charge(CHARGE, ORDER, payment_token="tok_visa") == outcome

        service.answers(pb.ResolvePaymentResponse(payment=payment))
        assert payments.resolve(CHARGE) == outcome

    def test_is_asked_for_under_the_operations_id(
        self, service: PaymentService, payments: GrpcPayments
    ) -> None:
        service.answers(pb.ProcessPaymentResponse(payment=PAYMENT))
        payments.charge(CHARGE, ORDER, payment_token="tok_visa")
        service.answers(pb.ResolvePaymentResponse(payment=PAYMENT))
        payments.resolve(CHARGE)

        assert service.requests == [
            pb.ProcessPaymentRequest(
                idempotency_key=CHARGE.id,
                payment_ticket="ticket of ord_1",
                payment_token="tok_visa",
            ),
            pb.ResolvePaymentRequest(order_id="ord_1", payment_idempotency_key=CHARGE.id),
        ]

    @pytest.mark.requirement("FR-215")
    def test_is_rejected_with_the_fields_that_only_the_payment_service_can_refuse(
        self, service: PaymentService, payments: GrpcPayments
    ) -> None:
        wrong = FieldViolation("payment_token", "is not known to the gateway")
        service.refuses(refusal(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED", wrong))

        assert payments.charge(CHARGE, ORDER, payment_token="tok_?") == Rejected((wrong,))

    def test_is_rejected_with_a_field_even_if_none_is_named(
        self, service: PaymentService, payments: GrpcPayments
    ) -> None:
        service.refuses(refusal(grpc.StatusCode.INVALID_ARGUMENT, "PAYMENT_TICKET_INVALID"))
        answer = payments.charge(CHARGE, ORDER, payment_token="tok_visa")

        assert isinstance(answer, Rejected)
        assert [violation.field for violation in answer.violations] == ["payment_token"]

    def test_is_not_rejected_by_what_the_payment_service_did_not_say(
        self, service: PaymentService, payments: GrpcPayments
    ) -> None:
        service.fails(grpc.StatusCode.INVALID_ARGUMENT)
        assert payments.charge(CHARGE, ORDER, payment_token="tok_visa") == Unknown()

        foreign = refusal(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
        info = foreign.details[0]
        info.value = info.value.replace(b"checkout", b"somebody")
        service.refuses(foreign)
        assert payments.charge(CHARGE, ORDER, payment_token="tok_visa") == Unknown()


class TestSeal:
    @pytest.mark.parametrize(
        ("response", "outcome"),
        [
            (pb.SealOrderResponse(), NoPayment()),
            (
                pb.SealOrderResponse(payment=payment_in(payment_pb2.PAYMENT_STATUS_SUCCEEDED)),
                Succeeded(facts("succeeded")),
            ),
            (
                pb.SealOrderResponse(payment=payment_in(payment_pb2.PAYMENT_STATUS_FAILED)),
                NoPayment(),
            ),
            (
                pb.SealOrderResponse(payment=payment_in(payment_pb2.PAYMENT_STATUS_VOIDED)),
                NoPayment(),
            ),
            (
                pb.SealOrderResponse(payment=payment_in(payment_pb2.PAYMENT_STATUS_PENDING)),
                Unknown(),
            ),
            (pb.SealOrderResponse(payment=payment_in(99)), Unknown()),
        ],
        ids=["no payment", "succeeded", "failed", "voided", "pending", "from the future"],
    )
    def test_ends_as_the_orders_payment_did(
        self,
        service: PaymentService,
        payments: GrpcPayments,
        response: pb.SealOrderResponse,
        outcome: object,
    ) -> None:
        service.answers(response)

        assert payments.seal(CANCEL) == outcome
        assert service.requests == [pb.SealOrderRequest(order_id="ord_1")]


class TestRefund:
    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (payment_pb2.REFUND_STATUS_SUCCEEDED, Refunded()),
            (payment_pb2.REFUND_STATUS_PENDING, Unknown()),
            (payment_pb2.REFUND_STATUS_UNSPECIFIED, Unknown()),
        ],
    )
    def test_ends_as_the_payment_services_refund_did(
        self,
        service: PaymentService,
        payments: GrpcPayments,
        status: payment_pb2.RefundStatus.ValueType,
        outcome: object,
    ) -> None:
        service.answers(pb.RefundPaymentResponse(refund=payment_pb2.Refund(status=status)))

        assert payments.refund(REFUND) == outcome
        assert service.requests == [
            pb.RefundPaymentRequest(
                idempotency_key=REFUND.id, payment_id="pay_1", amount=money(1500)
            )
        ]

    def test_may_be_declined(self, service: PaymentService, payments: GrpcPayments) -> None:
        declined = payment_pb2.Refund(
            status=payment_pb2.REFUND_STATUS_FAILED, decline_code="refund_failed"
        )
        service.answers(pb.RefundPaymentResponse(refund=declined))
        answer = payments.refund(REFUND)

        assert isinstance(answer, RefundRefused)
        assert isinstance(answer.refusal, RefundDeclined)
        assert (answer.refusal.order_id, answer.refusal.decline_code) == (
            "ord_1",
            "refund_failed",
        )

    def test_may_be_more_than_is_left(
        self, service: PaymentService, payments: GrpcPayments
    ) -> None:
        service.refuses(
            refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                "REFUND_EXCEEDS_PAYMENT",
                refundable_minor_units="1000",
            )
        )
        answer = payments.refund(REFUND)

        assert isinstance(answer, RefundRefused)
        assert isinstance(answer.refusal, RefundExceedsPayment)
        assert (answer.refusal.refundable, answer.refusal.requested) == (1000, 1500)
        assert (answer.refusal.payment_id, answer.refusal.currency_code) == ("pay_1", "EUR")

    def test_refused_otherwise_is_not_over(
        self, service: PaymentService, payments: GrpcPayments
    ) -> None:
        service.refuses(refusal(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND"))

        assert payments.refund(REFUND) == Unknown(problem="PAYMENT_NOT_FOUND")


class TestGet:
    def test_tells_what_the_payment_service_says(
        self, service: PaymentService, payments: GrpcPayments
    ) -> None:
        payment = payment_in(payment_pb2.PAYMENT_STATUS_FAILED, decline_code="lost_card")
        service.answers(pb.GetPaymentResponse(payment=payment))

        assert payments.get("pay_1", by=ALICE) == facts("failed", decline_code="lost_card")
        assert service.requests == [pb.GetPaymentRequest(payment_id="pay_1")]

    def test_knows_payments_that_never_had_an_amount(
        self, service: PaymentService, payments: GrpcPayments
    ) -> None:
        voided = payment_pb2.Payment(id="pay_1", status=payment_pb2.PAYMENT_STATUS_VOIDED)
        service.answers(pb.GetPaymentResponse(payment=voided))

        assert payments.get("pay_1", by=ALICE).amount is None

    def test_may_find_nothing(self, service: PaymentService, payments: GrpcPayments) -> None:
        service.refuses(refusal(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND"))

        with pytest.raises(PaymentNotFound) as refused:
            payments.get("pay_1", by=ALICE)
        assert refused.value.payment_id == "pay_1"

    @pytest.mark.parametrize("code", [*NO_ANSWERS, grpc.StatusCode.NOT_FOUND])
    def test_without_an_answer_has_started_nothing(
        self, service: PaymentService, payments: GrpcPayments, code: grpc.StatusCode
    ) -> None:
        service.fails(code)

        with pytest.raises(PaymentServiceUnavailable):
            payments.get("pay_1", by=ALICE)


@pytest.mark.requirement("FR-213")
class TestNoAnswer:
    @pytest.mark.parametrize("code", NO_ANSWERS)
    @pytest.mark.parametrize("call", CALLS)
    def test_is_an_unknown_outcome(
        self, service: PaymentService, payments: GrpcPayments, call: str, code: grpc.StatusCode
    ) -> None:
        service.fails(code)

        is_lost = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert CALLS[call](payments) == Unknown(unreachable=is_lost)

    @pytest.mark.parametrize("call", CALLS)
    def test_for_a_reason_is_an_unknown_outcome_too(
        self, service: PaymentService, payments: GrpcPayments, call: str
    ) -> None:
        service.refuses(refusal(grpc.StatusCode.ABORTED, "CONCURRENT_UPDATE", attempts="5"))

        assert CALLS[call](payments) == Unknown()


class TestEveryCall:
    @pytest.mark.requirement("FR-232")
    @pytest.mark.parametrize("call", CALLS)
    def test_is_the_order_services_own_within_the_trace(
        self, service: PaymentService, payments: GrpcPayments, call: str
    ) -> None:
        service.fails(grpc.StatusCode.UNAVAILABLE)
        CALLS[call](payments)
        [metadata] = service.metadata

        assert (metadata["x-actor-id"], metadata["x-actor-role"]) == (
            "order-service",
            "order_service",
        )
        assert metadata["traceparent"].split("-")[1] == TRACE_ID

    @pytest.mark.parametrize(
        ("actor", "person"),
        [
            (ALICE, "alice"),
            (SHOP, "alice"),
            (OLGA, "olga"),
            (replace(SHOP, on_behalf_of=""), "shop-backend"),
        ],
    )
    def test_names_the_person_acted_for(
        self, service: PaymentService, payments: GrpcPayments, actor: Actor, person: str
    ) -> None:
        service.fails(grpc.StatusCode.UNAVAILABLE)
        payments.resolve(replace(CHARGE, actor=actor))

        assert service.metadata[0]["x-on-behalf-of"] == person

    def test_names_nobody_if_nobody_is_known(
        self, service: PaymentService, payments: GrpcPayments
    ) -> None:
        service.fails(grpc.StatusCode.UNAVAILABLE)
        payments.resolve(replace(CHARGE, actor=Actor("order_service", "", "", TRACE_ID)))

        assert "x-on-behalf-of" not in service.metadata[0]

    @pytest.mark.requirement("FR-234")
    @pytest.mark.parametrize(
        ("remaining", "timeout"), [(30, 8.0), (8.5, 8.0), (6, 5.5), (1, 0.5), (0.4, 0), (-3, 0)]
    )
    def test_leaves_half_a_second_to_write_the_outcome_down(
        self, service: PaymentService, payments: GrpcPayments, remaining: float, timeout: float
    ) -> None:
        service.fails(grpc.StatusCode.DEADLINE_EXCEEDED)
        with serving(new_call("PayOrder", seconds=remaining)):
            payments.resolve(CHARGE)

        assert service.timeouts == [pytest.approx(timeout, abs=0.1)]
        assert service.timeouts[0] <= timeout

    @pytest.mark.parametrize("call", CALLS)
    def test_is_a_mistake_inside_a_transaction(
        self, service: PaymentService, payments: GrpcPayments, call: str, sqlite_url: str
    ) -> None:
        database = Database(sqlite_url)
        with pytest.raises(AssertionError, match="remote call inside a transaction"):
            database.transact(lambda _: CALLS[call](payments))

        assert service.timeouts == []
        database.close()


@pytest.mark.requirement("FR-234")
class TestAvailability:
    def test_is_assumed_until_the_connection_is_broken(
        self, service: PaymentService, payments: GrpcPayments
    ) -> None:
        payments.require_available()
        service.becomes(grpc.ChannelConnectivity.TRANSIENT_FAILURE)

        with pytest.raises(PaymentServiceUnavailable):
            payments.require_available()

    @pytest.mark.parametrize(
        "connectivity",
        [
            grpc.ChannelConnectivity.READY,
            grpc.ChannelConnectivity.IDLE,
        ],
    )
    def test_comes_back_with_the_connection(
        self,
        service: PaymentService,
        payments: GrpcPayments,
        connectivity: grpc.ChannelConnectivity,
    ) -> None:
        service.becomes(grpc.ChannelConnectivity.TRANSIENT_FAILURE)
        service.becomes(connectivity)

        payments.require_available()

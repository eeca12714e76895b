"""The servicer through grpc's own test server: what succeeds. Refusals need a real one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc_testing
import pytest
from sqlalchemy import URL

from checkout.payment.v1 import payment_pb2
from checkout.payment.v1 import payment_service_pb2 as pb
from payment_service.gateways.simulated import SimulatedGateway
from payment_service.gateways.simulated_ledger import SimulatedLedger
from payment_service.rpc.servicer import PaymentServicer
from payment_service.storage.store import SqlStore
from service_kit.call import serving
from service_kit.clock import SystemClock
from service_kit.database import Database
from tests.builders import CHAIN_KEY, money, new_request
from tests.checkout import migrate_payments
from tests.unit.payment_service.wiring import new_call, new_codec, wired

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["PaymentService"]


class Rpcs:
    """Calls the servicer as the order service, in this thread's call."""

    def __init__(self, server: grpc_testing.Server) -> None:
        self._server = server

    def __call__(self, rpc: str, **fields: Any) -> Any:
        method = DESCRIPTOR.methods_by_name[rpc]
        call = self._server.invoke_unary_unary(method, (), new_request(rpc, **fields), None)
        response, _, code, details = call.termination()
        assert code is grpc.StatusCode.OK, details
        return response


class ServingServicer(PaymentServicer):
    """Stands in for the interceptor, which grpc's test server leaves out: makes the call."""

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in DESCRIPTOR.methods_by_name:
            return method

        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            with serving(new_call(name)):
                return method(request, context)

        return serve


@pytest.fixture
def rpcs(tmp_path: Path) -> Iterator[Rpcs]:
    url = URL.create("sqlite", database=str(tmp_path / "payment.db")).render_as_string()
    migrate_payments(url)
    database, codec = Database(url), new_codec()
    gateway = SimulatedGateway(
        ledger=SimulatedLedger(tmp_path / "gateway.db"), slow_seconds=0, clock=SystemClock()
    )
    servicer = ServingServicer(
        codec=codec, use_cases=wired(SqlStore(database, chain_key=CHAIN_KEY), gateway, codec)
    )
    yield Rpcs(
        grpc_testing.server_from_dictionary({DESCRIPTOR: servicer}, grpc_testing.strict_real_time())
    )
    gateway.close()
    database.close()


def process(rpcs: Rpcs, order_id: str = "ord_1") -> payment_pb2.Payment:
    response = rpcs("ProcessPayment", payment_ticket=order_id, payment_token="tok_visa")
    payment: payment_pb2.Payment = response.payment
    return payment


def test_process_payment_answers_with_the_payment(rpcs: Rpcs) -> None:
    payment = process(rpcs)
    assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
    assert payment.amount == money(4000)


def test_get_payment_answers_with_the_payment(rpcs: Rpcs) -> None:
    payment = process(rpcs)
    assert rpcs("GetPayment", payment_id=payment.id).payment == payment


def test_list_payments_answers_with_a_page(rpcs: Rpcs) -> None:
    first, second = process(rpcs, "ord_1"), process(rpcs, "ord_2")
    page = rpcs("ListPayments", page_size=1)
    assert list(page.payments) == [second]
    rest = rpcs("ListPayments", page_token=page.next_page_token)
    assert list(rest.payments) == [first]
    assert rest.next_page_token == ""


def test_refund_payment_answers_with_refund_and_payment(rpcs: Rpcs) -> None:
    response = rpcs("RefundPayment", payment_id=process(rpcs).id, amount=money(1500))
    assert response.refund.status == payment_pb2.REFUND_STATUS_SUCCEEDED
    assert response.payment.refunded_amount == money(1500)


def test_resolve_payment_answers_with_the_payment(rpcs: Rpcs) -> None:
    response = rpcs("ResolvePayment", order_id="ord_1", payment_idempotency_key="k")
    assert response.payment.void_reason == payment_pb2.VOID_REASON_RESOLVED_BEFORE_ARRIVAL


def test_seal_order_answers_with_the_payment_if_there_is_one(rpcs: Rpcs) -> None:
    payment = process(rpcs)
    assert rpcs("SealOrder", order_id="ord_1").payment == payment
    assert not rpcs("SealOrder", order_id="ord_2").HasField("payment")


def test_list_payment_audit_entries_answers_with_the_history(rpcs: Rpcs) -> None:
    process(rpcs)
    entries = rpcs("ListPaymentAuditEntries").entries
    assert [entry.event_type for entry in entries] == ["payment_requested", "payment_succeeded"]
    assert {entry.on_behalf_of for entry in entries} == {"alice"}

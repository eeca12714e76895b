"""Every error reason of the contract, provoked over the wire and told as the contract says."""

import json
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as rpc

from checkout.error.v1 import error_details_pb2
from service_kit.contract.descriptors import ContractImage
from service_kit.contract.error_catalogue import error_catalogue
from tests.assertions import Refusal, refused
from tests.builders import new_order_item, new_trace_id
from tests.captured_log import captured_log
from tests.checkout import Checkout
from tests.client import ALICE, OPERATIONS
from tests.system.checkouts import POSTGRESQL, Checkouts
from tests.system.provocations import (
    NEED_THEIR_OWN_POSTGRESQL,
    NEED_THEIR_OWN_SERVICES,
    PROVOCATIONS,
    a_bug,
)

CATALOGUE = error_catalogue(ContractImage.installed())

# What stands beside the ErrorInfo.
DETAILS: dict[str, list[type[Message]]] = {
    "VALIDATION_FAILED": [rpc.BadRequest],
    "CARD_DATA_NOT_ACCEPTED": [rpc.BadRequest],
    "INVALID_PAGE_TOKEN": [rpc.BadRequest],
    "IDEMPOTENCY_KEY_REUSED": [rpc.BadRequest],
    "PAYMENT_TICKET_INVALID": [rpc.BadRequest],
    "CREDENTIALS_MISSING": [],
    "ROLE_NOT_ALLOWED": [],
    "ORDER_NOT_FOUND": [rpc.ResourceInfo],
    "PAYMENT_NOT_FOUND": [rpc.ResourceInfo],
    "INVALID_TRANSITION": [rpc.PreconditionFailure, error_details_pb2.InvalidTransition],
    "PAYMENT_DECLINED": [rpc.PreconditionFailure],
    "PAYMENT_MISMATCH": [rpc.PreconditionFailure],
    "PAYMENT_NOT_SUCCEEDED": [rpc.PreconditionFailure],
    "REFUND_DECLINED": [rpc.PreconditionFailure],
    "REFUND_EXCEEDS_PAYMENT": [rpc.PreconditionFailure],
    "PAYMENT_IN_PROGRESS": [rpc.RetryInfo],
    "REFUND_IN_PROGRESS": [rpc.RetryInfo],
    "REQUEST_IN_PROGRESS": [rpc.RetryInfo],
    "CONCURRENT_UPDATE": [rpc.RetryInfo],
    "ETAG_MISMATCH": [],
    "PAYMENT_OUTCOME_UNKNOWN": [rpc.RetryInfo],
    "PAYMENT_SERVICE_UNAVAILABLE": [rpc.RetryInfo],
    "STORAGE_UNAVAILABLE": [rpc.RetryInfo],
    "DEADLINE_TOO_SHORT": [],
    "OVERLOADED": [rpc.RetryInfo],
    "SERVER_DRAINING": [rpc.RetryInfo],
    "RATE_LIMITED": [rpc.RetryInfo],
    "INTERNAL": [rpc.RequestInfo],
}


@pytest.fixture
def suitable_checkout(
    reason: str, checkouts: Checkouts, request: pytest.FixtureRequest
) -> Iterator[Checkout]:
    """The shared checkout, unless provoking the reason would disturb others."""
    if reason in NEED_THEIR_OWN_POSTGRESQL:
        with captured_log(), checkouts.running(POSTGRESQL) as own:
            yield own
    elif reason in NEED_THEIR_OWN_SERVICES:
        with checkouts.running(**NEED_THEIR_OWN_SERVICES[reason]) as own:
            yield own
    else:
        yield request.getfixturevalue("checkout")


def provoked(checkout: Checkout, reason: str) -> Refusal:
    code = grpc.StatusCode[CATALOGUE[reason].code]
    with refused(code, reason) as refusal:
        PROVOCATIONS[reason](checkout)
    return refusal


@pytest.mark.requirement("FR-231")
def test_the_table_has_every_reason_of_the_contract() -> None:
    assert PROVOCATIONS.keys() == DETAILS.keys() == CATALOGUE.keys()


@pytest.mark.requirement("FR-231", "FR-235")
@pytest.mark.parametrize("reason", PROVOCATIONS)
def test_a_reason_is_told_as_the_contract_shows_it(
    reason: str, suitable_checkout: Checkout
) -> None:
    refusal = provoked(suitable_checkout, reason)
    example = json.loads(CATALOGUE[reason].example)
    assert refusal.metadata.keys() == example["metadata"].keys()
    assert all(refusal.metadata.values()) or reason == "INVALID_TRANSITION"
    told = [detail.TypeName() for detail in refusal.status.details]
    beside = [kind.DESCRIPTOR.full_name for kind in DETAILS[reason]]
    assert told == [rpc.ErrorInfo.DESCRIPTOR.full_name, *beside]
    trace_id = refusal.trailers["x-trace-id"]
    assert len(trace_id) == 32
    assert not refusal.is_replayed


@pytest.mark.requirement("FR-231")
@pytest.mark.parametrize("reason", ["REQUEST_IN_PROGRESS", "PAYMENT_OUTCOME_UNKNOWN", "OVERLOADED"])
def test_who_is_asked_to_wait_is_told_how_long(checkout: Checkout, reason: str) -> None:
    assert 0.1 <= provoked(checkout, reason).retry_seconds <= 5


@pytest.mark.requirement("FR-231", "FR-235")
def test_a_bug_tells_its_trace_id_and_nothing_else(checkouts: Checkouts) -> None:
    with captured_log() as log, checkouts.running(POSTGRESQL) as checkout:
        with refused(grpc.StatusCode.INTERNAL, "INTERNAL") as refusal:
            a_bug(checkout)
        assert refusal.metadata == {"trace_id": refusal.trailers["x-trace-id"]}
        assert refusal.request_id == refusal.trailers["x-trace-id"]
        assert refusal.status.message == "internal error"
        assert checkout.history() == []
        [line] = log.lines("rpc.failed")
        assert line["trace_id"] == refusal.trailers["x-trace-id"]
        assert "Traceback" in line["exception"]


@pytest.mark.requirement("FR-235")
@pytest.mark.parametrize("reason", ["CONCURRENT_UPDATE", "STORAGE_UNAVAILABLE"])
def test_after_a_failed_transaction_nothing_has_changed(checkouts: Checkouts, reason: str) -> None:
    with checkouts.running(POSTGRESQL) as checkout:
        refusal = provoked(checkout, reason)
        assert refusal.metadata == ({"attempts": "5"} if reason == "CONCURRENT_UPDATE" else {})
        assert checkout.history() == []
        assert list(checkout.orders(OPERATIONS).ListOrders().orders) == []


@pytest.mark.requirement("FR-202", "FR-231")
class TestValidation:
    def test_tells_everything_at_once_with_paths_and_without_values(
        self, checkout: Checkout
    ) -> None:
        items = [new_order_item(), new_order_item(sku="", quantity=54_321, name="n" * 257)]
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            checkout.orders().CreateOrder(idempotency_key="not an id", items=items)
        assert list(refusal.violations) == [
            "idempotency_key",
            "items[1].sku",
            "items[1].name",
            "items[1].quantity",
        ]
        assert refusal.metadata == {"field": "idempotency_key"}
        assert "54321" not in str(refusal.status)
        assert "1 to 10,000" in refusal.violations["items[1].quantity"]

    def test_tells_at_most_25_violations_and_stays_under_4_kB(self, checkout: Checkout) -> None:
        items = [new_order_item(sku="", name="", quantity=0) for _ in range(100)]
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            checkout.orders().CreateOrder(items=items)
        assert len(refusal.violations) == 25

    def test_refuses_more_than_64_kB(self, checkout: Checkout) -> None:
        items = [new_order_item(name="n" * 800) for _ in range(100)]
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            checkout.orders().CreateOrder(items=items)
        assert refusal.metadata == {"field": "request"}

    @pytest.mark.requirement("FR-233")
    def test_refuses_bytes_that_are_no_request(self, checkout: Checkout) -> None:
        for service, method in (
            (checkout.orders(), "CreateOrder"),
            (checkout.payments(), "ProcessPayment"),
        ):
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
                service.send(method, b"\xff\xff\xff")
            assert refusal.metadata == {"field": "request"}


@pytest.mark.requirement("FR-231", "FR-232")
def test_every_refusal_carries_the_callers_trace_id(checkout: Checkout) -> None:
    trace_id = new_trace_id()
    alice = ALICE.with_metadata(("x-trace-id", trace_id))
    with refused(grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND") as refusal:
        checkout.orders(alice).GetOrder(order_id="ord_unknown")
    assert refusal.trailers["x-trace-id"] == trace_id

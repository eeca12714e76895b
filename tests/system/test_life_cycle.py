"""Five arrows and no other: every status against every RPC that changes an order."""

from itertools import pairwise, product

import grpc
import pytest
import sqlalchemy as sa

from checkout.error.v1 import error_details_pb2
from checkout.order.v1 import order_pb2
from order_service.domain.state_machine import (
    TRANSITIONS,
    OrderAction,
    OrderStatus,
    allowed_actions,
)
from order_service.storage.tables import orders
from tests.assertions import Refusal, refused
from tests.builders import new_request
from tests.checkout import Checkout
from tests.client import ALICE, OPERATIONS, SHOP, Client
from tests.system.stages import ORDER_IN

ACTION_OF = {
    "PayOrder": OrderAction.PAY,
    "MarkOrderPaid": OrderAction.PAY,
    "CancelOrder": OrderAction.CANCEL,
    "FulfillOrder": OrderAction.FULFILL,
    "RefundOrder": OrderAction.REFUND,
    "ArchiveOrder": OrderAction.ARCHIVE,
}
CALLER_OF = {"FulfillOrder": SHOP, "ArchiveOrder": SHOP, "RefundOrder": OPERATIONS}

CELLS = list(product(OrderStatus, ACTION_OF))
ALLOWED = [cell for cell in CELLS if (cell[0], ACTION_OF[cell[1]]) in TRANSITIONS]
REFUSED = [cell for cell in CELLS if cell not in ALLOWED]


def name_of(value: OrderStatus | str) -> str:
    return value.value if isinstance(value, OrderStatus) else value


def client_of(checkout: Checkout, rpc: str) -> Client:
    return checkout.orders(CALLER_OF.get(rpc, ALICE))


def request_of(checkout: Checkout, rpc: str, order: order_pb2.Order) -> object:
    fields = {}
    if rpc == "PayOrder":
        fields["payment_token"] = "tok_visa"
    if rpc == "MarkOrderPaid":
        # Of the order itself where it can still be paid; elsewhere of another one.
        fields["transaction_id"] = checkout.process(
            order if order.payment_ticket else checkout.place()
        ).id
    return new_request(rpc, order_id=order.id, **fields)


def invalid_transition(checkout: Checkout, rpc: str, request: object) -> Refusal:
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION") as refusal:
        getattr(client_of(checkout, rpc), rpc)(request)
    return refusal


def test_the_table_below_is_the_whole_of_it() -> None:
    assert (len(ALLOWED), len(REFUSED)) == (6, 30)
    assert set(ORDER_IN) == set(OrderStatus)


@pytest.mark.requirement("FR-204", "FR-224")
@pytest.mark.parametrize(("status", "rpc"), ALLOWED, ids=name_of)
def test_an_arrow_leads_to_its_status(
    each_checkout: Checkout, status: OrderStatus, rpc: str
) -> None:
    checkout = each_checkout
    order = ORDER_IN[status](checkout)
    target = TRANSITIONS[status, ACTION_OF[rpc]]
    response = getattr(client_of(checkout, rpc), rpc)(request_of(checkout, rpc, order))
    assert response.order.status == order_pb2.OrderStatus.Value(f"ORDER_STATUS_{target.name}")
    assert checkout.order(order.id) == response.order
    last = checkout.history(order.id)[-1]
    assert (last.from_status, last.to_status) == (status.value, target.value)
    assert (last.event_type, last.outcome) == (f"order_{target.value}", "applied")


@pytest.mark.requirement("FR-204", "FR-205", "FR-228")
@pytest.mark.parametrize(("status", "rpc"), REFUSED, ids=name_of)
def test_everything_else_is_refused_stored_and_written_down_once(
    each_checkout: Checkout, status: OrderStatus, rpc: str
) -> None:
    checkout = each_checkout
    order = ORDER_IN[status](checkout)
    request = request_of(checkout, rpc, order)
    before = checkout.history(order.id)

    first = invalid_transition(checkout, rpc, request)
    again = invalid_transition(checkout, rpc, request)

    allowed = [action.value for action in allowed_actions(status)]
    assert first.metadata == {
        "order_id": order.id,
        "current_status": status.value,
        "attempted": ACTION_OF[rpc].value,
        "allowed": ",".join(allowed),
    }
    assert first.detail(error_details_pb2.InvalidTransition) == error_details_pb2.InvalidTransition(
        current_status=status.value, attempted=ACTION_OF[rpc].value, allowed=allowed
    )
    assert first.precondition == ("ORDER_STATUS", f"orders/{order.id}")

    assert again.status == first.status
    assert (first.is_replayed, again.is_replayed) == (False, True)

    assert checkout.order(order.id) == order
    [entry] = checkout.history(order.id)[len(before) :]
    assert entry.event_type == "invalid_transition_attempted"
    assert (entry.outcome, entry.reason) == ("refused", "INVALID_TRANSITION")
    assert entry.from_status == entry.to_status == status.value


@pytest.mark.requirement("FR-204")
@pytest.mark.parametrize("status", OrderStatus, ids=name_of)
def test_the_database_itself_knows_no_other_arrow(
    each_checkout: Checkout, status: OrderStatus
) -> None:
    order = ORDER_IN[status](each_checkout)
    known = {TRANSITIONS[status, action] for action in allowed_actions(status)}
    for target in set(OrderStatus) - known - {status}:
        statement = sa.update(orders).where(orders.c.id == order.id).values(status=target.value)
        with (
            pytest.raises(sa.exc.DBAPIError, match="arrow"),
            each_checkout.order_database.engine.begin() as connection,
        ):
            connection.execute(statement)
    assert each_checkout.order(order.id) == order


@pytest.mark.requirement("FR-228")
def test_the_history_of_every_order_is_a_path_along_the_arrows(each_checkout: Checkout) -> None:
    arrows = {(source.value, target.value) for (source, _), target in TRANSITIONS.items()}
    for status, reach in ORDER_IN.items():
        order = reach(each_checkout)
        entries = each_checkout.history(order.id)
        assert (entries[0].from_status, entries[0].to_status) == ("", "created")
        assert {(e.from_status, e.to_status) for e in entries[1:]} <= arrows
        for one, following in pairwise(entries):
            assert following.from_status == one.to_status
        assert entries[-1].to_status == status.value

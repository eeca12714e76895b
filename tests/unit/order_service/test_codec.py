"""Requests in, orders out."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import Message

from checkout.order.v1 import order_pb2
from checkout.order.v1 import order_service_pb2 as pb
from order_service.application.list_orders import ListOrders
from order_service.application.ports import StoredEntry
from order_service.domain.audit import Actor
from order_service.domain.errors import RefundDeclined
from order_service.domain.money import Money
from order_service.domain.order import Order
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderStatus
from order_service.gateways.tickets import ticket_signer
from order_service.rpc.codec import Codec, audit_entry
from order_service.rpc.errors import ERROR_TABLE
from service_kit.errors import InvalidPageToken, InvalidRequest
from service_kit.idempotency.record import KeyedRequest
from service_kit.paging import PageTokens
from service_kit.status import parse
from tests.builders import money
from tests.builders import new_order_item as item
from tests.unit.order_service.builders import (
    ALICE,
    AT,
    KEY_OF_TESTS,
    LATER,
    OLGA,
    SHOP,
    eur,
    new_call,
    new_operation,
    new_order,
)

codec = Codec(sign_ticket=ticket_signer(KEY_OF_TESTS), page_tokens=PageTokens(KEY_OF_TESTS))

IDENTIFIER = "1 to 64 characters of A-Z, a-z, 0-9, _ and -"


def create(*items: pb.NewOrderItem, **fields: Any) -> pb.CreateOrderRequest:
    return pb.CreateOrderRequest(**{"idempotency_key": "k1", "items": items or [item()], **fields})


def violations_of(decode: Callable[[], object]) -> dict[str, str]:
    """Decode a wrong request and return what is said about which field."""
    with pytest.raises(InvalidRequest) as refused:
        decode()
    return {v.field: v.description for v in refused.value.violations}


def violations_in(request: pb.CreateOrderRequest, actor: Actor = ALICE) -> dict[str, str]:
    return violations_of(lambda: codec.create_order(request, new_call("CreateOrder", actor)))


class TestCreateOrder:
    def test_becomes_a_command_in_the_callers_name(self) -> None:
        command = codec.create_order(create(), new_call("CreateOrder"))

        assert (command.customer_id, command.actor) == ("alice", ALICE)
        assert (command.request.role, command.request.caller) == ("customer", "alice")
        assert (command.request.key, command.request.method) == ("k1", "CreateOrder")
        assert [(i.sku, i.name, i.quantity, i.unit_price) for i in command.items] == [
            ("MUG-1", "Mug", 2, eur(1250))
        ]

    @pytest.mark.requirement("FR-202")
    def test_is_told_everything_that_is_wrong_at_once(self) -> None:
        request = create(
            item(sku="", quantity=0),
            item(name="n" * 257, unit_price=money(-1, "EURO")),
            pb.NewOrderItem(),
            idempotency_key="two words",
            customer_id="c" * 257,
        )

        assert violations_in(request, SHOP) == {
            "idempotency_key": f"must be {IDENTIFIER}",
            "customer_id": "must be 0 to 256 characters",
            "items[0].sku": "is required: 1 to 256 characters",
            "items[0].quantity": "must be 1 to 10,000",
            "items[1].name": "must be 1 to 256 characters",
            "items[1].unit_price.currency_code": "must be the ISO 4217 code of a currency in use",
            "items[1].unit_price.minor_units": (
                "is out of its limit: `minor_units` from 0 to 10,000,000,000"
            ),
            "items[2].sku": "is required: 1 to 256 characters",
            "items[2].name": "is required: 1 to 256 characters",
            "items[2].quantity": "must be 1 to 10,000",
            "items[2].unit_price": "is required: `minor_units` from 0 to 10,000,000,000",
        }

    @pytest.mark.requirement("FR-202")
    def test_never_gets_its_values_back(self) -> None:
        request = create(item(sku="SECRET" * 50, name="SECRET\x00"), customer_id="SECRET" * 50)

        found = violations_in(request, SHOP)
        assert set(found) == {"customer_id", "items[0].sku", "items[0].name"}
        assert not any("SECRET" in text for text in found.values())

    @pytest.mark.requirement("FR-202")
    def test_is_told_25_mistakes_at_most(self) -> None:
        request = create(*[pb.NewOrderItem()] * 100)
        with pytest.raises(InvalidRequest) as refused:
            codec.create_order(request, new_call("CreateOrder"))
        status = ERROR_TABLE.status(refused.value)

        assert len(refused.value.violations) == 25
        assert status is not None
        assert status.ByteSize() <= 4096

    @pytest.mark.requirement("FR-202")
    @pytest.mark.parametrize("count", [0, 101])
    def test_has_1_to_100_items(self, count: int) -> None:
        request = pb.CreateOrderRequest(idempotency_key="k1", items=[item()] * count)

        assert list(violations_in(request)) == ["items"]

    @pytest.mark.requirement("FR-202")
    def test_is_in_one_currency(self) -> None:
        request = create(item(), item(unit_price=money(1, "USD")))

        assert violations_in(request) == {"items": "must all be in one currency"}

    @pytest.mark.requirement("FR-202")
    @pytest.mark.parametrize(
        "items",
        [
            [item(unit_price=money(0))],
            [item(quantity=100, unit_price=money(10**10)), item(quantity=1, unit_price=money(1))],
        ],
        ids=["nothing", "one too much"],
    )
    def test_has_a_total_within_its_limits(self, items: list[pb.NewOrderItem]) -> None:
        assert violations_in(create(*items)) == {
            "items": "must have a total from 1 to 1,000,000,000,000 minor units"
        }

    @pytest.mark.requirement("FR-202")
    @pytest.mark.parametrize(("quantity", "price"), [(1, 1), (100, 10**10)])
    def test_may_have_the_least_and_the_greatest_total(self, quantity: int, price: int) -> None:
        request = create(item(quantity=quantity, unit_price=money(price)))

        assert codec.create_order(request, new_call("CreateOrder")).items

    @pytest.mark.requirement("FR-202")
    def test_is_not_told_of_sums_of_fields_that_are_wrong_themselves(self) -> None:
        request = create(item(quantity=0), item(unit_price=money(1, "USD")))

        assert list(violations_in(request)) == ["items[0].quantity"]


@pytest.mark.requirement("FR-203")
class TestCustomer:
    def test_may_name_themselves_or_nobody(self) -> None:
        for customer_id in ("", "alice"):
            request = create(customer_id=customer_id)
            command = codec.create_order(request, new_call("CreateOrder"))
            assert command.customer_id == "alice"

    def test_may_not_name_somebody_else(self) -> None:
        assert violations_in(create(customer_id="bob")) == {
            "customer_id": "must be empty or the caller's own id"
        }

    def test_must_be_named_by_a_service(self) -> None:
        assert violations_in(create(), SHOP) == {"customer_id": "is required from a service"}

        command = codec.create_order(create(customer_id="bob"), new_call("CreateOrder", SHOP))
        assert (command.customer_id, command.actor) == ("bob", SHOP)
        assert command.request.caller == "shop-backend"


class TestChanges:
    def test_name_the_order_and_who_asks(self) -> None:
        request = pb.CancelOrderRequest(idempotency_key="k1", order_id="ord_1", etag="3")
        command = codec.change_order(request, new_call("CancelOrder", SHOP))

        assert (command.order_id, command.etag, command.actor) == ("ord_1", "3", SHOP)
        assert (command.request.method, command.request.role) == ("CancelOrder", "service")

    def test_carry_what_is_theirs(self) -> None:
        pay = codec.pay_order(
            pb.PayOrderRequest(idempotency_key="k1", order_id="ord_1", payment_token="tok_visa"),
            new_call("PayOrder"),
        )
        mark = codec.mark_order_paid(
            pb.MarkOrderPaidRequest(idempotency_key="k1", order_id="ord_1", transaction_id="pay_1"),
            new_call("MarkOrderPaid"),
        )

        assert (pay.payment_token, mark.payment_id) == ("tok_visa", "pay_1")

    def test_to_refund_have_an_amount_or_none(self) -> None:
        request = pb.RefundOrderRequest(idempotency_key="k1", order_id="ord_1")
        assert codec.refund_order(request, new_call("RefundOrder", OLGA)).amount is None

        request.amount.CopyFrom(money(1500, "JPY"))
        command = codec.refund_order(request, new_call("RefundOrder", OLGA))
        assert command.amount == Money("JPY", 1500)

    @pytest.mark.parametrize(
        ("decode", "expected"),
        [
            (
                lambda: codec.pay_order(pb.PayOrderRequest(), new_call("PayOrder")),
                {"idempotency_key", "order_id", "payment_token"},
            ),
            (
                lambda: codec.mark_order_paid(
                    pb.MarkOrderPaidRequest(etag="e" * 65), new_call("MarkOrderPaid")
                ),
                {"idempotency_key", "order_id", "transaction_id", "etag"},
            ),
            (
                lambda: codec.refund_order(
                    pb.RefundOrderRequest(amount=money(0, "")), new_call("RefundOrder")
                ),
                {"idempotency_key", "order_id", "amount.currency_code", "amount.minor_units"},
            ),
            (
                lambda: codec.change_order(pb.FulfillOrderRequest(), new_call("FulfillOrder")),
                {"idempotency_key", "order_id"},
            ),
            (
                lambda: codec.get_order(pb.GetOrderRequest(), new_call("GetOrder")),
                {"order_id"},
            ),
            (
                lambda: codec.list_order_audit_entries(
                    pb.ListOrderAuditEntriesRequest(
                        after_sequence=-1, page_size=101, order_id="not an id"
                    )
                ),
                {"after_sequence", "page_size", "order_id"},
            ),
            (
                lambda: codec.watch_order_events(
                    pb.WatchOrderEventsRequest(after_sequence=-1, order_id="not an id")
                ),
                {"after_sequence", "order_id"},
            ),
        ],
    )
    def test_are_told_everything_that_is_wrong_at_once(
        self, decode: Callable[[], object], expected: set[str]
    ) -> None:
        assert set(violations_of(decode)) == expected


def change(kind: type[Message], decode: Any) -> Any:
    """Say how a change with these fields is fingerprinted."""

    def keyed(**fields: Any) -> KeyedRequest:
        method = kind.DESCRIPTOR.name.removesuffix("Request")
        call = new_call(method, OLGA)
        request: KeyedRequest = decode(
            kind(**{"idempotency_key": "k1", "order_id": "ord_1", **fields}), call
        ).request
        return request

    return kind, keyed


CHANGES = {
    "PayOrder": (
        *change(pb.PayOrderRequest, codec.pay_order),
        {"payment_token": "tok_visa"},
        {"order_id": "ord_2", "payment_token": "tok_mastercard", "etag": "1"},
    ),
    "MarkOrderPaid": (
        *change(pb.MarkOrderPaidRequest, codec.mark_order_paid),
        {"transaction_id": "pay_1"},
        {"order_id": "ord_2", "transaction_id": "pay_2", "etag": "1"},
    ),
    "RefundOrder": (
        *change(pb.RefundOrderRequest, codec.refund_order),
        {},
        {"order_id": "ord_2", "amount": money(1), "etag": "1"},
    ),
    "CancelOrder": (
        *change(pb.CancelOrderRequest, codec.change_order),
        {},
        {"order_id": "ord_2", "etag": "1"},
    ),
}


@pytest.mark.requirement("FR-206")
class TestFingerprint:
    @pytest.mark.parametrize("method", CHANGES)
    def test_notices_every_field(self, method: str) -> None:
        kind, keyed, given, others = CHANGES[method]
        fields = {field.name for field in kind.DESCRIPTOR.fields}
        assert set(others) == fields - {"idempotency_key"}

        fingerprints = {keyed(**{**given, name: others[name]}).fingerprint for name in others}
        fingerprints.add(keyed(**given).fingerprint)
        assert len(fingerprints) == len(others) + 1

    @pytest.mark.parametrize(
        "other",
        [
            create(customer_id="bob"),
            create(item(sku="MUG-2"), customer_id="alice"),
            create(item(name="Cup"), customer_id="alice"),
            create(item(quantity=3), customer_id="alice"),
            create(item(unit_price=money(1251)), customer_id="alice"),
            create(item(unit_price=money(1250, "USD")), customer_id="alice"),
            create(item(), item(), customer_id="alice"),
        ],
        ids=["customer_id", "sku", "name", "quantity", "price", "currency", "items"],
    )
    def test_of_a_new_order_notices_every_field(self, other: pb.CreateOrderRequest) -> None:
        def keyed(request: pb.CreateOrderRequest) -> KeyedRequest:
            return codec.create_order(request, new_call("CreateOrder", SHOP)).request

        assert keyed(other).fingerprint != keyed(create(item(), customer_id="alice")).fingerprint

    def test_notices_how_much_is_to_be_given_back(self) -> None:
        _, keyed, _, _ = CHANGES["RefundOrder"]
        amounts = [None, money(1), money(2), money(1, "USD")]

        assert len({keyed(amount=amount).fingerprint for amount in amounts}) == len(amounts)

    def test_notices_the_method(self) -> None:
        cancel = codec.change_order(
            pb.CancelOrderRequest(idempotency_key="k1", order_id="ord_1"), new_call("CancelOrder")
        )
        archive = codec.change_order(
            pb.ArchiveOrderRequest(idempotency_key="k1", order_id="ord_1"),
            new_call("ArchiveOrder"),
        )

        assert cancel.request.fingerprint != archive.request.fingerprint

    def test_ignores_what_was_not_said(self) -> None:
        _, keyed, _, _ = CHANGES["CancelOrder"]
        assert keyed(etag="").fingerprint == keyed().fingerprint

        implied, said = (
            codec.create_order(create(customer_id=name), new_call("CreateOrder")).request
            for name in ("", "alice")
        )
        assert implied == said

    def test_ignores_the_key_and_the_caller_who_are_the_scope(self) -> None:
        _, keyed, _, _ = CHANGES["CancelOrder"]
        request = pb.CancelOrderRequest(idempotency_key="k2", order_id="ord_1")
        other = codec.change_order(request, new_call("CancelOrder", ALICE)).request

        assert other.fingerprint == keyed().fingerprint
        assert (other.role, other.caller, other.key) == ("customer", "alice", "k2")


def listed(actor: Actor = ALICE, **fields: Any) -> ListOrders.Query:
    return codec.list_orders(pb.ListOrdersRequest(**fields), new_call("ListOrders", actor))


def next_page_token(actor: Actor = ALICE, **fields: Any) -> str:
    page = ListOrders.Page([new_order()], next_before="ord_9")
    response = codec.orders_page(
        page, pb.ListOrdersRequest(**fields), new_call("ListOrders", actor)
    )
    return response.next_page_token


@pytest.mark.requirement("FR-227")
class TestListOrders:
    def test_is_of_a_customers_own_orders_and_20_by_default(self) -> None:
        query = listed()

        assert (query.wanted.customer_id, query.wanted.status) == ("alice", None)
        assert (query.page_size, query.before) == (20, "")

    def test_is_of_all_orders_for_others(self) -> None:
        assert listed(OLGA).wanted.customer_id == ""
        assert listed(OLGA, customer_id="bob").wanted.customer_id == "bob"

    def test_is_refused_for_another_customers_orders(self) -> None:
        assert list(violations_of(lambda: listed(customer_id="bob"))) == ["customer_id"]

    @pytest.mark.parametrize("status", OrderStatus)
    def test_filters_by_any_status(self, status: OrderStatus) -> None:
        number = order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status.name}")

        assert listed(status=number).wanted.status is status

    def test_refuses_a_status_that_it_does_not_know(self) -> None:
        assert violations_of(lambda: listed(status=99)) == {
            "status": "must be one of the enum's values"
        }

    @pytest.mark.parametrize("page_size", [-1, 101])
    def test_refuses_a_page_size_out_of_its_limits(self, page_size: int) -> None:
        assert violations_of(lambda: listed(page_size=page_size)) == {
            "page_size": "must be 0 to 100"
        }

    def test_goes_on_where_the_page_before_ended_with_any_page_size(self) -> None:
        token = next_page_token(page_size=5)

        assert listed(page_token=token, page_size=100).before == "ord_9"

    @pytest.mark.parametrize(
        ("actor", "fields"),
        [
            (replace(ALICE, id="bob"), {}),
            (replace(ALICE, role="service"), {}),
            (ALICE, {"status": order_pb2.ORDER_STATUS_PAID}),
            (ALICE, {"customer_id": "alice"}),
        ],
        ids=["caller", "role", "status", "customer"],
    )
    def test_takes_a_token_from_the_same_caller_with_the_same_arguments_only(
        self, actor: Actor, fields: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidPageToken):
            listed(actor, page_token=next_page_token(), **fields)

    def test_ends_without_a_token(self) -> None:
        page = ListOrders.Page([new_order(), new_order()], next_before="")
        response = codec.orders_page(page, pb.ListOrdersRequest(), new_call("ListOrders"))

        assert [order.id for order in response.orders] == [order.id for order in page.orders]
        assert response.next_page_token == ""


class TestAuditEntries:
    def test_are_asked_for_by_place_and_order(self) -> None:
        query = codec.list_order_audit_entries(
            pb.ListOrderAuditEntriesRequest(after_sequence=7, order_id="ord_1", page_size=3)
        )
        assert (query.after, query.order_id, query.page_size) == (7, "ord_1", 3)

        query = codec.list_order_audit_entries(pb.ListOrderAuditEntriesRequest())
        assert (query.after, query.order_id, query.page_size) == (0, "", 20)

    def test_are_watched_from_a_place_on(self) -> None:
        query = codec.watch_order_events(
            pb.WatchOrderEventsRequest(after_sequence=7, order_id="ord_1")
        )
        assert (query.after, query.order_id) == (7, "ord_1")

        query = codec.watch_order_events(pb.WatchOrderEventsRequest())
        assert (query.after, query.order_id) == (0, "")

    @pytest.mark.requirement("FR-228")
    def test_show_everything_that_was_written_down(self) -> None:
        order = new_order(OrderStatus.PAID)
        refusal = RefundDeclined(order_id=order.id, decline_code="refund_failed")
        entry = order.refused(refusal, by=SHOP, at=LATER)
        shown = audit_entry(StoredEntry(sequence=41, entry=entry))

        assert shown.timestamp.ToMilliseconds() == LATER.timestamp() * 1000
        shown.ClearField("timestamp")
        assert {field.name: value for field, value in shown.ListFields()} == {
            "sequence": 41,
            "order_id": order.id,
            "actor_id": "shop-backend",
            "on_behalf_of": "alice",
            "event_type": "refund_failed",
            "from_status": "paid",
            "to_status": "paid",
            "outcome": "refused",
            "reason": "REFUND_DECLINED",
            "trace_id": SHOP.trace_id,
            "payment_transaction_id": order.payment_id,
        }


class TestOrder:
    @pytest.mark.requirement("FR-201")
    def test_is_shown_with_its_sums_its_times_and_its_etag(self) -> None:
        order = new_order(updated_at=LATER)
        shown = codec.order(order)

        assert (shown.id, shown.customer_id, shown.etag) == (order.id, "alice", "1")
        assert shown.status == order_pb2.ORDER_STATUS_CREATED
        assert [(i.sku, i.quantity, i.unit_price, i.line_total) for i in shown.items] == [
            ("MUG-1", 2, money(500), money(1000)),
            ("TEE-M", 1, money(3000), money(3000)),
        ]
        assert (shown.total_amount, shown.refunded_amount) == (money(4000), money(0))
        assert shown.create_time.ToMicroseconds() == round(AT.timestamp() * 1_000_000)
        assert shown.update_time.ToMicroseconds() == round(LATER.timestamp() * 1_000_000)
        assert not shown.HasField("pending_operation")

    @pytest.mark.parametrize("status", OrderStatus)
    def test_has_a_ticket_only_while_it_can_be_paid(self, status: OrderStatus) -> None:
        shown = codec.order(new_order(status))

        assert order_pb2.OrderStatus.Name(shown.status) == f"ORDER_STATUS_{status.name}"
        assert bool(shown.payment_ticket) is (status is OrderStatus.CREATED)

    @pytest.mark.parametrize("kind", OperationKind)
    def test_shows_what_is_under_way_but_not_its_id(self, kind: OperationKind) -> None:
        order = new_order(OrderStatus.PAID)
        operation = new_operation(kind, order=order)
        shown = codec.order(order.begun(operation))

        name = order_pb2.PaymentOperationKind.Name(shown.pending_operation.kind)
        assert name == f"PAYMENT_OPERATION_KIND_{kind.name}"
        assert shown.pending_operation.start_time.ToMicroseconds() == round(
            AT.timestamp() * 1_000_000
        )
        assert operation.id not in str(shown)


RESPONSES: dict[str, Any] = {
    name: response
    for name, response in vars(pb).items()
    if name.endswith("OrderResponse") or name == "MarkOrderPaidResponse"
}


@pytest.mark.requirement("FR-205")
class TestReplies:
    @pytest.mark.parametrize("name", sorted(RESPONSES.keys() - {"GetOrderResponse"}))
    def test_of_success_are_the_same_bytes_every_time(self, name: str) -> None:
        order: Order = new_order()
        method = name.removesuffix("Response")
        body = codec.response(method, order)

        assert codec.response(method, order) == body
        assert RESPONSES[name].FromString(body).order == codec.order(order)

    def test_of_refusal_are_the_status_that_is_sent(self) -> None:
        refusal = RefundDeclined(order_id="ord_1", decline_code="refund_failed")

        assert parse(codec.refusal(refusal)) == ERROR_TABLE.status(refusal)

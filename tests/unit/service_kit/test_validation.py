"""Limits are data: every broken one is told at once, by path, in the contract's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout.order.v1 import order_pb2, order_service_pb2
from service_kit.errors import FieldViolation
from service_kit.validation import (
    VIOLATIONS_MAX,
    Amount,
    Choice,
    Identifier,
    Items,
    Rule,
    Text,
    Whole,
    violations,
)

V1 = "checkout.order.v1"
RULES: dict[str, Rule] = {
    f"{V1}.CreateOrderRequest.idempotency_key": Identifier(),
    f"{V1}.CreateOrderRequest.customer_id": Text(0, 256),
    f"{V1}.CreateOrderRequest.items": Items(1, 100),
    f"{V1}.NewOrderItem.sku": Text(1, 256),
    f"{V1}.NewOrderItem.quantity": Whole(1, 10_000),
    f"{V1}.NewOrderItem.unit_price": Amount(0, 10_000_000_000),
    f"{V1}.ListOrdersRequest.page_size": Whole(0, 100),
    f"{V1}.ListOrdersRequest.status": Choice(),
    f"{V1}.ListOrderAuditEntriesRequest.after_sequence": Whole(0),
    f"{V1}.ListOrderAuditEntriesRequest.order_id": Identifier(required=False),
    f"{V1}.WatchOrderEventsRequest.after_sequence": Whole(0),
    f"{V1}.WatchOrderEventsRequest.order_id": Identifier(required=False),
    f"{V1}.RefundOrderRequest.amount": Amount(
        1, 1000, required=False, maximum_words="what is left of the payment"
    ),
}


def an_order(**changes: object) -> order_service_pb2.CreateOrderRequest:
    request = order_service_pb2.CreateOrderRequest(idempotency_key="key-1", items=[an_item()])
    request.MergeFrom(order_service_pb2.CreateOrderRequest(**changes))  # type: ignore[arg-type]
    return request


def an_item(
    *, sku: str = "sku-1", quantity: int = 1, currency: str = "EUR", price: int = 100
) -> order_service_pb2.NewOrderItem:
    item = order_service_pb2.NewOrderItem(sku=sku, quantity=quantity)
    item.unit_price.currency_code = currency
    item.unit_price.minor_units = price
    return item


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (Text(1, 256), "1 to 256 characters"),
        (Text(1, 2048), "1 to 2,048 characters"),
        (Identifier(), "1 to 64 characters of A-Z, a-z, 0-9, _ and -"),
        (Identifier(required=False), "0 to 64 characters of A-Z, a-z, 0-9, _ and -"),
        (Whole(1, 10_000), "1 to 10,000"),
        (Whole(0), "0 or more"),
        (Items(1, 100), "1 to 100 items"),
        (Amount(0, 10_000_000_000), "`minor_units` from 0 to 10,000,000,000"),
        (Amount(1, 9, maximum_words="what is left"), "`minor_units` from 1 to what is left"),
        (Choice(), "one of the enum's values"),
    ],
)
def test_a_rule_describes_itself_in_the_contracts_words(rule: Rule, sentence: str) -> None:
    assert rule.describe() == sentence


class TestViolations:
    def test_are_none_for_a_valid_request(self) -> None:
        assert violations(an_order(customer_id="cus_1"), RULES) == []

    def test_are_all_told_at_once_with_their_paths(self) -> None:
        request = order_service_pb2.CreateOrderRequest(
            customer_id="c" * 257,
            items=[
                an_item(),
                an_item(sku="", quantity=0, currency="EURO", price=-1),
                order_service_pb2.NewOrderItem(sku="s", quantity=10_001),
            ],
        )
        assert violations(request, RULES) == [
            FieldViolation(
                "idempotency_key", "is required: 1 to 64 characters of A-Z, a-z, 0-9, _ and -"
            ),
            FieldViolation("customer_id", "must be 0 to 256 characters"),
            FieldViolation("items[1].sku", "is required: 1 to 256 characters"),
            FieldViolation("items[1].quantity", "must be 1 to 10,000"),
            FieldViolation(
                "items[1].unit_price.currency_code",
                "must be the ISO 4217 code of a currency in use",
            ),
            FieldViolation(
                "items[1].unit_price.minor_units",
                "is out of its limit: `minor_units` from 0 to 10,000,000,000",
            ),
            FieldViolation("items[2].quantity", "must be 1 to 10,000"),
            FieldViolation(
                "items[2].unit_price", "is required: `minor_units` from 0 to 10,000,000,000"
            ),
        ]

    def test_are_at_most_25(self) -> None:
        request = an_order(items=[an_item(sku="", quantity=0) for _ in range(99)])
        assert len(violations(request, RULES)) == VIOLATIONS_MAX == 25

    def test_of_a_list_are_its_length(self) -> None:
        nothing = order_service_pb2.CreateOrderRequest(idempotency_key="k")
        assert violations(nothing, RULES) == [
            FieldViolation("items", "is required: 1 to 100 items")
        ]
        too_many = an_order(items=[an_item()] * 100)
        assert violations(too_many, RULES) == [FieldViolation("items", "must be 1 to 100 items")]

    @given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
    def test_never_repeat_a_value(self, value: str) -> None:
        marked = f"<{value}>"
        request = an_order(
            idempotency_key=marked, customer_id=marked * 200, items=[an_item(sku=marked)]
        )
        assert marked not in str(violations(request, RULES))


class TestText:
    @pytest.mark.parametrize("character", ["\x00", "\t", "\n", "\x1f", "\x7f"])
    def test_has_no_control_characters(self, character: str) -> None:
        [violation] = violations(an_order(customer_id=f"a{character}b"), RULES)
        assert violation.field == "customer_id"
        assert "control characters" in violation.description

    def test_is_counted_in_characters_of_any_script(self) -> None:
        assert violations(an_order(customer_id="日" * 256), RULES) == []


class TestIdentifier:
    @pytest.mark.parametrize("value", ["k", "A-z_0", "k" * 64])
    def test_takes_letters_digits_and_two_signs(self, value: str) -> None:
        assert Identifier().problem(value) == ""

    @pytest.mark.parametrize("value", ["", "k" * 65, "a b", "a.b", "ä", "a\n"])
    def test_takes_nothing_else(self, value: str) -> None:
        assert "1 to 64 characters" in Identifier().problem(value)

    def test_that_is_not_required_may_be_empty(self) -> None:
        assert violations(order_service_pb2.ListOrderAuditEntriesRequest(), RULES) == []


class TestWhole:
    @pytest.mark.parametrize("size", [-1, 101])
    def test_is_within_its_limits(self, size: int) -> None:
        request = order_service_pb2.ListOrdersRequest(page_size=size)
        assert violations(request, RULES) == [FieldViolation("page_size", "must be 0 to 100")]

    def test_without_an_upper_limit_may_be_as_large_as_its_type(self) -> None:
        request = order_service_pb2.ListOrderAuditEntriesRequest(after_sequence=2**63 - 1)
        assert violations(request, RULES) == []
        request.after_sequence = -1
        assert violations(request, RULES) == [FieldViolation("after_sequence", "must be 0 or more")]


class TestChoice:
    def test_is_a_value_of_the_enum(self) -> None:
        request = order_service_pb2.ListOrdersRequest(status=order_pb2.ORDER_STATUS_PAID)
        assert violations(request, RULES) == []

    def test_is_no_number_that_the_enum_does_not_have(self) -> None:
        request = order_service_pb2.ListOrdersRequest(status=99)  # type: ignore[arg-type]
        assert violations(request, RULES) == [
            FieldViolation("status", "must be one of the enum's values")
        ]


class TestAmount:
    def test_that_is_not_required_may_be_left_out(self) -> None:
        assert violations(order_service_pb2.RefundOrderRequest(), RULES) == []

    def test_is_checked_against_the_number_behind_the_words(self) -> None:
        request = order_service_pb2.RefundOrderRequest()
        request.amount.currency_code, request.amount.minor_units = "EUR", 1001
        [violation] = violations(request, RULES)
        assert violation.description.endswith("from 1 to what is left of the payment")


def test_a_message_without_a_rule_is_walked_into() -> None:
    response = order_service_pb2.CreateOrderResponse()
    rules: dict[str, Rule] = {f"{V1}.Order.id": Identifier()}
    assert violations(response, rules) == []
    response.order.SetInParent()
    assert [v.field for v in violations(response, rules)] == ["order.id"]

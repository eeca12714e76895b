"""Card numbers are seen wherever they stand; what only looks a little like one is not."""

import base64
import uuid

import jwt
import pytest
from google.protobuf import field_mask_pb2, struct_pb2
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from checkout.order.v1 import order_service_pb2
from service_kit.card_data import find, find_in_text, may_be_in
from service_kit.ids import new_id

# Published test numbers of the card networks.
CARDS = {
    "visa": "4242424242424242",
    "visa of 13 digits": "4222222222222",
    "mastercard": "5555555555554444",
    "mastercard of the 2 series": "2223003122003222",
    "american express": "378282246310005",
    "diners club": "30569309025904",
    "discover": "6011111111111117",
    "jcb": "3530111333300000",
    "unionpay of 19 digits": "6205500000000000004",
}


def luhn_digit(digits: str) -> str:
    """Compute the check digit the slow way, as ISO/IEC 7812-1, annex B describes it."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        product = int(digit) * (2 if index % 2 == 0 else 1)
        total += product // 10 + product % 10
    return str(-total % 10)


@st.composite
def card_numbers(draw: st.DrawFn) -> str:
    first = draw(st.sampled_from(["22", "27", "3", "4", "5", "6"]))
    length = draw(st.integers(14, 19))
    digits = draw(st.text("0123456789", min_size=length, max_size=length))
    payload = (first + digits)[: length - 1]
    return payload + luhn_digit(payload)


class TestFindInText:
    @pytest.mark.parametrize("number", CARDS.values(), ids=CARDS.keys())
    def test_knows_the_networks(self, number: str) -> None:
        assert find_in_text(number)

    @given(number=card_numbers(), data=st.data())
    def test_sees_through_single_spaces_and_dashes(self, number: str, data: st.DataObject) -> None:
        gaps = [data.draw(st.sampled_from(["", " ", "-"])) for _ in number[1:]]
        assert find_in_text(
            number[0] + "".join(g + d for g, d in zip(gaps, number[1:], strict=True))
        )

    @pytest.mark.parametrize(
        "text",
        [
            "card: 4242 4242 4242 4242, exp 12/27",
            "4242 4242 4242 4242 12/27 123",
            "2 4242 4242 4242 4242",
            "card-4242424242424242",
            "(4242424242424242)",
            "card_4242424242424242_x",
            "卡号4242424242424242",
            "pays with\n4242-4242-4242-4242",
            "1001 4242 4242 4242 4242 7",
        ],
    )
    def test_sees_one_among_other_words(self, text: str) -> None:
        assert find_in_text(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "tok_visa",
            "4242424242424241",  # wrong check digit
            "x4242424242424242",
            "4242424242424242x",
            "a4242-424242424242",
            "42424242424242420000",  # 20 digits
            "4242  4242  4242  4242",  # not single
            "4242.4242.4242.4242",
            "1111111111111117",  # no network begins with 1
            "9999999999999995",
            "4006381333931",  # an article number, GTIN-13
            "20261122000007",  # begins with a year
            "+49 30 123456",
            "42424242-4242-4242-a242-424242424242",  # a UUID that begins like a card number
            "2026-11-22T10:15:00.000000Z",
        ],
    )
    def test_takes_nothing_else_for_one(self, text: str) -> None:
        assert not find_in_text(text)

    @given(value=st.uuids())
    def test_never_takes_a_uuid_for_one(self, value: uuid.UUID) -> None:
        assert not find_in_text(str(value))
        assert not find_in_text(f"key-{value}")

    @given(first=st.integers(0, 10**8 - 1), rest=st.integers(0, 10**12 - 1))
    def test_never_takes_a_uuid_of_digits_for_one(self, first: int, rest: int) -> None:
        assert not find_in_text(f"{first:08}-1234-4123-8123-{rest:012}")

    @given(content=st.binary(max_size=300))
    def test_never_takes_base64_for_one(self, content: bytes) -> None:
        assert not find_in_text(base64.b64encode(content).decode())
        assert not find_in_text(base64.urlsafe_b64encode(content).decode())

    @given(order=st.uuids(), amount=st.integers(1, 10**12))
    def test_never_takes_a_jwt_for_one(self, order: uuid.UUID, amount: int) -> None:
        claims = {"order_id": f"ord_{order.hex}", "minor_units": amount}
        assert not find_in_text(jwt.encode(claims, "k" * 32, algorithm="HS256"))

    def test_never_takes_our_ids_for_one(self) -> None:
        assert not any(find_in_text(new_id("ord_")) for _ in range(1000))


class TestFind:
    def test_names_the_fields_that_hold_one(self) -> None:
        request = order_service_pb2.CreateOrderRequest(
            idempotency_key="key-1",
            customer_id=CARDS["visa"],
            items=[
                order_service_pb2.NewOrderItem(sku="sku-1", name="A book"),
                order_service_pb2.NewOrderItem(
                    sku=CARDS["visa"], name="paid by 4242-4242-4242-4242"
                ),
            ],
        )
        request.items[1].unit_price.currency_code = CARDS["mastercard"]
        assert find(request) == [
            "customer_id",
            "items[1].sku",
            "items[1].name",
            "items[1].unit_price.currency_code",
        ]

    def test_finds_nothing_in_an_ordinary_request(self) -> None:
        request = order_service_pb2.PayOrderRequest(
            idempotency_key=str(uuid.uuid4()), order_id=new_id("ord_"), payment_token="tok_visa"
        )
        assert find(request) == []

    def test_looks_into_lists_of_strings(self) -> None:
        mask = field_mask_pb2.FieldMask(paths=["a", CARDS["visa"]])
        assert find(mask) == ["paths[1]"]

    def test_looks_into_both_sides_of_maps_and_names_neither(self) -> None:
        struct = struct_pb2.Struct()
        struct[CARDS["visa"]] = "x"
        struct["y"] = CARDS["visa"]
        assert sorted(find(struct)) == ["fields", "fields[].string_value"]
        details = error_details_pb2.ErrorInfo(metadata={"a": "b", "c": CARDS["visa"]})
        assert find(details) == ["metadata"]


class TestMayBeIn:
    @given(number=card_numbers(), before=st.text(), after=st.text(), data=st.data())
    def test_is_so_wherever_one_is_found(
        self, number: str, before: str, after: str, data: st.DataObject
    ) -> None:
        gap = data.draw(st.sampled_from(["", " ", "-"]))
        struct = struct_pb2.Struct()
        struct.update({"a": [{"b": before + gap.join(number) + after}]})
        assert may_be_in(struct.SerializeToString()) or not find(struct)

    @pytest.mark.parametrize("number", CARDS.values(), ids=CARDS.keys())
    def test_is_so_with_any_network(self, number: str) -> None:
        item = order_service_pb2.NewOrderItem(sku="sku-1", name=f"paid by {number}")
        request = order_service_pb2.CreateOrderRequest(items=[item])
        assert may_be_in(request.SerializeToString())

    def test_is_not_so_of_an_ordinary_request(self) -> None:
        request = order_service_pb2.PayOrderRequest(
            idempotency_key="key-1", order_id=f"ord_{'019a8c2f5d7e' * 2}", payment_token="tok_visa"
        )
        assert not may_be_in(request.SerializeToString())

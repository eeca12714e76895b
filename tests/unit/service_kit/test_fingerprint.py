"""What makes two requests the same one."""

import hashlib

import pytest

from service_kit.idempotency.fingerprint import fingerprint

ORDER = {"customer_id": "cus_1", "items": [["mug", "Mug", 2, 1250], ["pen", "Pen", 1, 99]]}


@pytest.mark.requirement("FR-206")
class TestTheSameRequest:
    def test_has_the_same_fingerprint(self) -> None:
        assert fingerprint("CreateOrder", **ORDER) == fingerprint("CreateOrder", **ORDER)

    def test_has_it_in_whatever_order_the_fields_are_named(self) -> None:
        backwards = dict(reversed(ORDER.items()))

        assert fingerprint("CreateOrder", **backwards) == fingerprint("CreateOrder", **ORDER)

    @pytest.mark.parametrize("default", ["", 0, None, [], False])
    def test_has_it_with_a_newer_field_left_at_its_default(self, default: object) -> None:
        newer = fingerprint("CreateOrder", **ORDER, gift_note=default)

        assert newer == fingerprint("CreateOrder", **ORDER)

    def test_has_one_that_no_release_may_change(self) -> None:
        """Keys outlive a deployment: the same request must match the row of an older version."""
        text = '["CreateOrder",{"customer_id":"cus_1","items":[["mug","Mug",2,1250]]}]'

        digest = fingerprint("CreateOrder", customer_id="cus_1", items=[["mug", "Mug", 2, 1250]])

        assert digest == hashlib.sha256(text.encode()).digest()


@pytest.mark.requirement("FR-206")
class TestAnotherRequest:
    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"customer_id": "cus_2"}, id="another value"),
            pytest.param({"customer_id": None}, id="a missing field"),
            pytest.param({"etag": "1"}, id="one more field"),
            pytest.param({"items": list(reversed(ORDER["items"]))}, id="items in another order"),
            pytest.param({"items": [["mug", "Mug", "2", 1250]]}, id="another type"),
        ],
    )
    def test_has_another_fingerprint(self, other: dict[str, object]) -> None:
        assert fingerprint("CreateOrder", **{**ORDER, **other}) != fingerprint(
            "CreateOrder", **ORDER
        )

    def test_of_another_method_has_another_fingerprint(self) -> None:
        assert fingerprint("CancelOrder", order_id="1") != fingerprint("RefundOrder", order_id="1")

    def test_cannot_be_made_by_moving_text_between_fields(self) -> None:
        assert fingerprint("A", b='x","c":"y') != fingerprint("A", b="x", c="y")


class TestAFingerprint:
    def test_is_32_bytes(self) -> None:
        assert len(fingerprint("GetOrder")) == 32

    def test_takes_text_of_any_script(self) -> None:
        assert fingerprint("A", name="Kaffee für zwei ☕") != fingerprint("A", name="Kaffee")

    def test_takes_a_field_called_method(self) -> None:
        assert fingerprint("A", method="B") != fingerprint("A")

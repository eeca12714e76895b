"""Who calls, as the metadata says."""

import pytest

from service_kit.call import Principal
from service_kit.errors import CredentialsMissing
from service_kit.interceptors.identity import on_behalf_of, principal_of
from service_kit.principals import ROLES

CARD_NUMBER = "4242424242424242"


def metadata(**changes: str | None) -> dict[str, str]:
    given = {"x_actor_id": "cus_1", "x_actor_role": "customer", **changes}
    return {name.replace("_", "-"): value for name, value in given.items() if value is not None}


@pytest.mark.requirement("FR-230")
class TestPrincipal:
    @pytest.mark.parametrize("role", ["customer", "service", "operations"])
    def test_is_the_caller_in_its_one_role(self, role: str) -> None:
        caller = principal_of(metadata(x_actor_role=role))

        assert caller == Principal(role=role, id="cus_1")

    def test_may_be_the_order_service_under_its_own_id(self) -> None:
        caller = principal_of(metadata(x_actor_role="order_service", x_actor_id="order-service"))

        assert caller == Principal(role="order_service", id="order-service")

    def test_may_have_any_visible_ascii_in_its_id(self) -> None:
        everything = "".join(map(chr, range(0x21, 0x7F)))

        assert principal_of(metadata(x_actor_id=everything)).id == everything
        assert principal_of(metadata(x_actor_id="x" * 256)).id == "x" * 256


@pytest.mark.requirement("FR-230")
class TestCredentials:
    @pytest.mark.parametrize(
        "actor",
        [None, "", " ", "cus 1", "cus\t1", "cus\u00e91", "x" * 257, CARD_NUMBER],
        ids=["none", "empty", "blank", "space", "tab", "not ASCII", "too long", "card number"],
    )
    def test_without_a_readable_id_are_missing(self, actor: str | None) -> None:
        with pytest.raises(CredentialsMissing) as refusal:
            principal_of(metadata(x_actor_id=actor))

        assert refusal.value.header == "x-actor-id"
        assert CARD_NUMBER not in str(refusal.value)

    @pytest.mark.parametrize("role", [None, "", "admin", "Customer", "customer,operations"])
    def test_without_a_known_role_are_missing(self, role: str | None) -> None:
        with pytest.raises(CredentialsMissing) as refusal:
            principal_of(metadata(x_actor_role=role))

        assert refusal.value.header == "x-actor-role"

    @pytest.mark.parametrize("role", [role for role in ROLES if role != "order_service"])
    def test_with_the_reserved_id_are_for_the_order_service_alone(self, role: str) -> None:
        with pytest.raises(CredentialsMissing) as refusal:
            principal_of(metadata(x_actor_id="order-service", x_actor_role=role))

        assert refusal.value.header == "x-actor-id"

    def test_of_the_order_service_have_no_other_id(self) -> None:
        with pytest.raises(CredentialsMissing) as refusal:
            principal_of(metadata(x_actor_role="order_service"))

        assert refusal.value.header == "x-actor-id"


@pytest.mark.requirement("FR-230")
class TestOnBehalfOf:
    def test_is_the_person_a_backend_acts_for(self) -> None:
        backend = Principal(role="service", id="web-shop")

        assert on_behalf_of(metadata(x_on_behalf_of="cus_2"), backend) == "cus_2"

    def test_is_nobody_when_a_backend_names_nobody(self) -> None:
        assert on_behalf_of(metadata(), Principal(role="service", id="web-shop")) == ""

    def test_is_nobody_for_a_customer_whomever_they_name(self) -> None:
        customer = Principal(role="customer", id="cus_1")

        assert on_behalf_of(metadata(x_on_behalf_of="cus_2"), customer) == ""

    @pytest.mark.parametrize("person", ["", "cus 2", CARD_NUMBER])
    def test_must_be_readable_when_it_is_given(self, person: str) -> None:
        with pytest.raises(CredentialsMissing) as refusal:
            on_behalf_of(metadata(x_on_behalf_of=person), Principal(role="service", id="web-shop"))

        assert refusal.value.header == "x-on-behalf-of"

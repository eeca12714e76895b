"""The allow-list of certificates: how it is written, and whom it lets in."""

import pytest

from service_kit.call import Principal
from service_kit.credentials.clients import ClientsUnusable, parse_clients

LIST = (
    "spiffe://checkout/order=order_service:order-service,"
    " spiffe://checkout/shop=service:shop-backend, spiffe://checkout/edge=token"
)


@pytest.mark.requirement("FR-303")
class TestAnAllowList:
    def test_says_whom_each_certificate_stands_for(self) -> None:
        clients = parse_clients(LIST)
        assert clients.principal("spiffe://checkout/order") == Principal(
            role="order_service", id="order-service"
        )
        assert clients.principal("spiffe://checkout/shop") == Principal(
            role="service", id="shop-backend"
        )
        assert clients.principal("spiffe://checkout/edge") is None
        assert clients.some_bring_tokens

    @pytest.mark.parametrize(
        ("uris", "listed"),
        [
            ([], None),
            (["spiffe://checkout/shop"], "spiffe://checkout/shop"),
            (["spiffe://checkout/other", "spiffe://checkout/shop"], "spiffe://checkout/shop"),
            (["spiffe://checkout/shop", "spiffe://checkout/shop"], "spiffe://checkout/shop"),
            (["spiffe://checkout/shop", "spiffe://checkout/edge"], None),
            (["spiffe://checkout/shop/"], None),
            (["spiffe://checkout/shop/admin"], None),
            (["spiffe://CHECKOUT/shop"], None),
            (["spiffe://checkout/"], None),
            (["token"], None),
        ],
    )
    def test_threat_02_knows_a_certificate_by_exactly_one_uri(
        self, uris: list[str], listed: str | None
    ) -> None:
        assert parse_clients(LIST).listed(uris) == listed

    def test_may_be_empty_and_lets_nobody_in(self) -> None:
        assert parse_clients("").listed(["spiffe://checkout/shop"]) is None
        assert not parse_clients(" , ").some_bring_tokens

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("spiffe://checkout/shop", "is not URI=ROLE:ID"),
            ("spiffe://checkout/shop=", "is not URI=ROLE:ID"),
            ("shop=service:shop", "is not URI=ROLE:ID"),
            ("=service:shop", "is not URI=ROLE:ID"),
            ("spiffe://a/b=token,spiffe://a/b=service:b", "is listed twice"),
            ("spiffe://a/b=admin:b", "the role of spiffe://a/b must be one of"),
            ("spiffe://a/b=service", "the id of spiffe://a/b must be 1 to 256"),
            ("spiffe://a/b=service:two words", "the id of spiffe://a/b must be 1 to 256"),
            ("spiffe://a/b=service:order-service", "the id of spiffe://a/b is reserved"),
            ("spiffe://a/b=order_service:shop", "the id of spiffe://a/b is reserved"),
        ],
    )
    def test_must_be_right(self, text: str, problem: str) -> None:
        with pytest.raises(ClientsUnusable) as refused:
            parse_clients(text)
        assert problem in str(refused.value)

"""Exact amounts."""

import pytest

from order_service.domain.money import Money


class TestMoney:
    def test_is_added_subtracted_and_multiplied_exactly(self) -> None:
        price = Money("JPY", 10_000_000_000)

        assert price * 100 == Money("JPY", 1_000_000_000_000)
        assert price + Money("JPY", 1) == Money("JPY", 10_000_000_001)
        assert price - Money("JPY", 1) == Money("JPY", 9_999_999_999)

    def test_of_another_currency_is_another_amount(self) -> None:
        assert Money("EUR", 100) != Money("USD", 100)

    def test_of_two_currencies_has_no_sum(self) -> None:
        with pytest.raises(ValueError, match="USD is not EUR"):
            Money("EUR", 100) + Money("USD", 100)
        with pytest.raises(ValueError, match="USD is not EUR"):
            Money("EUR", 100) - Money("USD", 100)

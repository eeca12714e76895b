"""ISO 4217 as the services know it."""

import re

import pytest

from service_kit.currency import EXPONENTS


@pytest.mark.parametrize(
    ("code", "exponent"),
    [("EUR", 2), ("USD", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("TND", 3), ("CLF", 4)],
)
def test_knows_how_many_decimals_a_currency_has(code: str, exponent: int) -> None:
    assert EXPONENTS[code] == exponent


@pytest.mark.parametrize("code", ["XAU", "XDR", "XXX", "XTS", "HRK", "BGN", "ANG", "ZWL", "eur"])
def test_has_no_code_that_nobody_can_be_charged_in(code: str) -> None:
    assert code not in EXPONENTS


def test_has_each_code_once_in_three_capital_letters() -> None:
    assert all(re.fullmatch(r"[A-Z]{3}", code) for code in EXPONENTS)
    assert len(EXPONENTS) == 165

"""An exact amount of one currency."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Money:
    """`minor_units` counts the smallest unit of the ISO 4217 currency: cents, yen, fils."""

    currency_code: str
    minor_units: int

    def __add__(self, other: "Money") -> "Money":
        return Money(self.currency_code, self.minor_units + self._same(other))

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.currency_code, self.minor_units - self._same(other))

    def __mul__(self, quantity: int) -> "Money":
        return Money(self.currency_code, self.minor_units * quantity)

    def _same(self, other: "Money") -> int:
        if other.currency_code != self.currency_code:
            raise ValueError(f"{other.currency_code} is not {self.currency_code}")
        return other.minor_units

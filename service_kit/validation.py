"""The limits of request fields as data: checked, described, and told to the caller.

The sentence of `describe()` stands word for word in the field's proto comment and in the
violation, so that contract, code and answer cannot drift apart.
"""

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from google.protobuf.message import Message

from service_kit.currency import EXPONENTS
from service_kit.errors import FieldViolation

VIOLATIONS_MAX: Final = 25
IDENTIFIER_MAX: Final = 64

_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_NOT_IDENTIFIER: Final = re.compile("[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class Text:
    """A string of `minimum` to `maximum` characters; required if `minimum` is not 0."""

    minimum: int
    maximum: int

    def describe(self) -> str:
        """Say the limit in the words of the contract."""
        return f"{self.minimum:,} to {self.maximum:,} characters"

    def problem(self, value: str) -> str:
        """Say what is wrong with the value; empty if nothing is."""
        if not value and self.minimum:
            return f"is required: {self.describe()}"
        if not self.minimum <= len(value) <= self.maximum:
            return f"must be {self.describe()}"
        if _CONTROL.search(value):
            return "must not contain control characters (U+0000 to U+001F, U+007F)"
        return ""


@dataclass(frozen=True)
class Identifier:
    """A key or an id: letters, digits, `_` and `-`."""

    required: bool = True

    def describe(self) -> str:
        """Say the limit in the words of the contract."""
        minimum = 1 if self.required else 0
        return f"{minimum} to {IDENTIFIER_MAX} characters of A-Z, a-z, 0-9, _ and -"

    def problem(self, value: str) -> str:
        """Say what is wrong with the value; empty if nothing is."""
        if not value:
            return f"is required: {self.describe()}" if self.required else ""
        if len(value) > IDENTIFIER_MAX or _NOT_IDENTIFIER.search(value):
            return f"must be {self.describe()}"
        return ""


@dataclass(frozen=True)
class Whole:
    """A whole number from `minimum` to `maximum`; without the latter only the type limits it."""

    minimum: int
    maximum: int | None = None

    def describe(self) -> str:
        """Say the limit in the words of the contract."""
        if self.maximum is None:
            return f"{self.minimum:,} or more"
        return f"{self.minimum:,} to {self.maximum:,}"

    def problem(self, value: int) -> str:
        """Say what is wrong with the value; empty if nothing is."""
        too_much = self.maximum is not None and value > self.maximum
        return f"must be {self.describe()}" if too_much or value < self.minimum else ""


@dataclass(frozen=True)
class Items:
    """A list of `minimum` to `maximum` elements."""

    minimum: int
    maximum: int

    def describe(self) -> str:
        """Say the limit in the words of the contract."""
        return f"{self.minimum:,} to {self.maximum:,} items"

    def problem(self, count: int) -> str:
        """Say what is wrong with the length; empty if nothing is."""
        if not count and self.minimum:
            return f"is required: {self.describe()}"
        within = self.minimum <= count <= self.maximum
        return "" if within else f"must be {self.describe()}"


@dataclass(frozen=True)
class Amount:
    """A message of `currency_code` and `minor_units`, the latter within limits.

    `maximum_words` tells the upper limit in words where the contract states no number.
    """

    minimum: int
    maximum: int
    required: bool = True
    maximum_words: str = ""

    def describe(self) -> str:
        """Say the limit in the words of the contract."""
        maximum = self.maximum_words or f"{self.maximum:,}"
        return f"`minor_units` from {self.minimum:,} to {maximum}"

    def problems(self, path: str, value: Any) -> Iterator[FieldViolation]:
        """Tell what is wrong with the amount, or with its absence (None)."""
        if value is None:
            if self.required:
                yield FieldViolation(path, f"is required: {self.describe()}")
            return
        if value.currency_code not in EXPONENTS:
            problem = "must be the ISO 4217 code of a currency in use"
            yield FieldViolation(f"{path}.currency_code", problem)
        if not self.minimum <= value.minor_units <= self.maximum:
            problem = f"is out of its limit: {self.describe()}"
            yield FieldViolation(f"{path}.minor_units", problem)


@dataclass(frozen=True)
class Choice:
    """A value that the enum has."""

    def describe(self) -> str:
        """Say the limit in words."""
        return "one of the enum's values"

    def problem(self, value: int, known: Container[int]) -> str:
        """Say what is wrong with the value; empty if it is one of the known numbers."""
        return "" if value in known else f"must be {self.describe()}"


Rule = Text | Identifier | Whole | Items | Amount | Choice


def violations(message: Message, rules: Mapping[str, Rule]) -> list[FieldViolation]:
    """List the fields that break their rule, in the order of the contract, at most 25.

    `rules` has them by full field name, for example
    `checkout.order.v1.NewOrderItem.quantity`. Nested messages are checked by theirs.
    """
    return list(islice(_walk(message, rules, ""), VIOLATIONS_MAX))


def _walk(message: Message, rules: Mapping[str, Rule], prefix: str) -> Iterator[FieldViolation]:
    for field in message.DESCRIPTOR.fields:
        rule = rules.get(field.full_name)
        path = f"{prefix}{field.name}"
        value: Any = getattr(message, field.name)
        if field.is_repeated:
            if isinstance(rule, Items) and (problem := rule.problem(len(value))):
                yield FieldViolation(path, problem)
            if field.message_type is not None:
                for index, element in enumerate(value):
                    yield from _walk(element, rules, f"{path}[{index}].")
        elif field.message_type is not None:
            given = message.HasField(field.name)
            yield from _message(path, value if given else None, rule, rules)
        elif isinstance(rule, Choice):
            assert field.enum_type is not None
            if problem := rule.problem(value, field.enum_type.values_by_number):
                yield FieldViolation(path, problem)
        elif isinstance(rule, Text | Identifier | Whole) and (problem := _problem(rule, value)):
            yield FieldViolation(path, problem)


def _message(
    path: str, value: Message | None, rule: Rule | None, rules: Mapping[str, Rule]
) -> Iterator[FieldViolation]:
    if isinstance(rule, Amount):
        yield from rule.problems(path, value)
    elif value is not None:
        yield from _walk(value, rules, f"{path}.")


def _problem(rule: Text | Identifier | Whole, value: Any) -> str:
    return rule.problem(value)

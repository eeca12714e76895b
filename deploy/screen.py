"""What the demo looks like: plain text, with colour where somebody is watching."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TextIO

from checkout.money.v1 import money_pb2
from service_kit.currency import EXPONENTS

_STYLES: Final = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}
_METHOD_WIDTH: Final = 21


def wants_colour(stream: TextIO, variables: Mapping[str, str]) -> bool:
    """Say whether to write colour: on a terminal, or as NO_COLOR and FORCE_COLOR ask.

    See https://no-color.org and https://force-color.org: set and not empty counts.
    """
    if variables.get("NO_COLOR"):
        return False
    if variables.get("FORCE_COLOR"):
        return True
    return stream.isatty() and variables.get("TERM") != "dumb"


def amount(money: money_pb2.Money) -> str:
    """Write an amount for people: 12.50 EUR."""
    exponent = EXPONENTS[money.currency_code]
    sign = "-" if money.minor_units < 0 else ""
    digits = str(abs(money.minor_units)).rjust(exponent + 1, "0")
    whole, fraction = (digits[:-exponent], f".{digits[-exponent:]}") if exponent else (digits, "")
    return f"{sign}{whole}{fraction} {money.currency_code}"


class Screen:
    """Writes the demo's lines."""

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        self._stream = stream
        self._colour = colour
        self.steps = 0

    def styled(self, text: str, *styles: str) -> str:
        """Colour a text, if there is colour."""
        if not self._colour:
            return text
        codes = ";".join(_STYLES[style] for style in styles)
        return f"\x1b[{codes}m{text}\x1b[0m"

    def line(self, text: str = "") -> None:
        """Write a line, at once: people watch."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def heading(self, text: str) -> None:
        """Begin a part without a number."""
        self.line()
        self.line(self.styled(text, "bold"))

    def step(self, title: str) -> None:
        """Begin the next step."""
        self.steps += 1
        self.line()
        self.line(self.styled(f"{self.steps:>2}  {title}", "bold"))

    def answered(self, method: str, outcome: str) -> None:
        """Tell of a call that answered OK."""
        self._call(method, self.styled("OK", "green"), outcome)

    def refused(self, method: str, code: str, outcome: str) -> None:
        """Tell of a call that was refused, as it should be."""
        self._call(method, self.styled(code, "yellow"), outcome)

    def _call(self, method: str, code: str, outcome: str) -> None:
        line = f"    {self.styled(method.ljust(_METHOD_WIDTH), 'cyan')} {code}  {outcome}"
        self.line(line.rstrip())

    def kept(self, fact: str) -> None:
        """Tell of an expectation that was met."""
        self.line(f"    {self.styled('✓', 'green')} {fact}")

    def broken(self, fact: str, *, expected: str, came: str) -> None:
        """Tell of an expectation that was not met."""
        self.line(f"    {self.styled('✗', 'red')} {self.styled(fact, 'red')}")
        self.line(f"        expected  {expected}")
        self.line(f"        came      {came}")

    def facts(self, rows: Iterable[tuple[str, str]]) -> None:
        """Write names and values below each other."""
        rows = list(rows)
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self.line(f"      {name.ljust(width)}  {value}")

    def groups(self, groups: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """Write names and values below each other, under titles."""
        width = max(len(name) for rows in groups.values() for name, _ in rows)
        for title, rows in groups.items():
            self.line(f"      {self.styled(title, 'cyan')}")
            for name, value in rows:
                self.line(f"        {name.ljust(width)}  {value}")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write rows in columns; what begins with a digit in the first row stands right."""
        rows = list(rows)
        lines = [list(head), *map(list, rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        numbers = [cell[:1].isdigit() for cell in rows[0]]
        for line in lines:
            cells = (
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(line, widths, numbers, strict=True)
            )
            text = "      " + "  ".join(cells).rstrip()
            self.line(self.styled(text, "dim") if line is lines[0] else text)

    def commands(self, *lines: str) -> None:
        """Write lines to paste."""
        for line in lines:
            self.line(self.styled(f"    {line}", "cyan") if line else "")

"""Markdown out of proto comments: paragraphs, tables and links that hold."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

# In backticks any name; elsewhere only what is no English word: CamelCase and UPPER_CASE.
_NAME: Final = re.compile(r"`([^`]+)`|\b(?:[A-Z][a-z]+[A-Z]\w*(?:\.[A-Z]\w+)?|[A-Z]+_[A-Z_]+)\b")


def anchor(heading: str) -> str:
    """Return the fragment under which GitHub shows a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def paragraphs(comment: str) -> list[str]:
    """Split a comment at its blank lines and unwrap its prose; indented code stays as it is."""
    blocks = re.split(r"\n\s*\n", comment)
    return [block if is_code(block) else " ".join(block.split()) for block in blocks]


def is_code(block: str) -> bool:
    """Say whether every line of a block is indented by four spaces, as code is in Markdown."""
    return all(line.startswith("    ") for line in block.split("\n"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a table, or nothing at all when it has no rows."""
    body = [_row(row) for row in rows]
    return [_row(head), _row(["---"] * len(head)), *body, ""] if body else []


def _row(cells: Sequence[str]) -> str:
    return "".join(f"| {cell.replace('|', chr(92) + '|')} " for cell in cells) + "|"


class Links:
    """Turns the names in a text into links to where they are documented.

    `targets` are headings by name. A name is linked when it stands by itself or in backticks,
    with its package or a field's name behind it or not.
    """

    def __init__(self, targets: Mapping[str, str]) -> None:
        self._targets = targets

    def to(self, name: str, *, text: str = "") -> str:
        """Link to a name, or say it plainly if it is not documented here."""
        label = text or f"`{name.rpartition('.')[2]}`"
        heading = self._targets.get(name)
        return f"[{label}](#{anchor(heading)})" if heading else label

    def prose(self, text: str, *, here: str = "") -> str:
        """Escape a text and link every name in it but those documented under `here`."""

        def linked(match: re.Match[str]) -> str:
            name = match.group(1) or match.group(0)
            heading = self._heading(name)
            if heading is None or heading == here:
                return match.group(0)
            return f"[`{name}`](#{anchor(heading)})"

        return _NAME.sub(linked, text)

    def _heading(self, name: str) -> str | None:
        owner = name.rpartition(".")[0]
        return self._targets.get(name) or self._targets.get(owner)

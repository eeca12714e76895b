"""What a command answers: a table for people, or JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence


def show(
    columns: Sequence[str], rows: Sequence[Mapping[str, object]], *, as_json: bool, nothing: str
) -> None:
    """Write the rows to standard output.

    As JSON it is one object a line. Without rows people are told `nothing`, programs no line.
    """
    if as_json:
        lines = [json.dumps({column: row[column] for column in columns}) for row in rows]
    elif not rows:
        lines = [nothing]
    else:
        lines = _aligned([columns, *([str(row[column]) for column in columns] for row in rows)])
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]

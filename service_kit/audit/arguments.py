"""What can be typed after `audit`."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def add_arguments(
    parser: argparse.ArgumentParser,
    noun: str,
    export_arguments: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Say what `audit` understands. `noun` is what a history is about."""
    what = parser.add_subparsers(required=True, dest="what", metavar="WHAT")
    _add_verify(what, noun)
    heads = _parser(
        what,
        "heads",
        "write where each history ends, to be kept elsewhere",
        "Writes where each history ends to standard output, as sealed JSON lines. Keep them where"
        " nobody who can\nchange the database can: `audit verify --heads` then also finds what was"
        " removed as a whole or put back.",
    )
    heads.add_argument(
        "--since",
        metavar="FILE",
        type=Path,
        help="first compare with this file, which was written before; name what is gone since, or"
        " was put back, and then write nothing",
    )
    exporting = _parser(
        what,
        "export",
        f"write all that is known of one {noun} as sealed JSON lines",
        f"Writes all that is known of one {noun} to standard output, as JSON lines that"
        " `audit verify --file` verifies.\nExit code 1: there is nothing, or it is damaged.",
    )
    exporting.add_argument("subject", metavar=noun.upper(), help=f"the {noun}'s id")
    export_arguments(exporting)
    forgetting = _parser(
        what,
        "anonymise",
        "forget who acted in entries that are older than the retention",
        "Forgets who acted, and for whom, in all entries from before a day. The entries and their"
        " seals stay\nas they are. What retention means: docs/audit.md.",
    )
    forgetting.add_argument(
        "--before",
        metavar="DATE",
        type=_day,
        help="that day, as in 2019-12-31, at 00:00 UTC; default: all that is old enough",
    )


def _add_verify(what: Any, noun: str) -> None:
    verifying = _parser(
        what,
        "verify",
        "name every history in which an entry was changed, removed, added or moved",
        "Names, of every history that is not as it was written, the first entry that was changed,"
        " removed, added or\nmoved. Exit code 1: there is one.",
    )
    which = verifying.add_mutually_exclusive_group()
    which.add_argument(f"--{noun}", metavar="ID", default="", help=f"verify this {noun} only")
    which.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        help="verify an export instead; it needs the secret, and no database",
    )
    which.add_argument(
        "--heads",
        metavar="FILE",
        type=Path,
        help="also name what is gone since `audit heads` wrote this file, or was put back",
    )
    verifying.add_argument("--json", action="store_true", help="one JSON object a service")


def _parser(what: Any, name: str, told: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = what.add_parser(
        name,
        help=told,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _day(value: str) -> datetime:
    try:
        return datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a day, as in 2019-12-31") from None

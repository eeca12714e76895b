"""What an operator can ask the order service's database besides serving it."""

import argparse
from typing import Final

from order_service import bootstrap
from order_service.config import Settings
from service_kit.command_line import Command
from service_kit.table import show

_COLUMNS: Final = ("what", "id", "order_id", "since", "attempts", "problem")


def _needs_human(settings: Settings, options: argparse.Namespace) -> int:
    with bootstrap.needs_human(settings) as needs_human:
        cases = needs_human()
    show(
        _COLUMNS,
        [
            {
                "what": case.what,
                "id": case.id,
                "order_id": case.order_id,
                "since": case.since.isoformat(timespec="seconds"),
                "attempts": case.attempts,
                "problem": case.problem or "no outcome yet",
            }
            for case in cases
        ],
        as_json=options.json,
        nothing="nothing waits for a person",
    )
    return 0


def _as_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


COMMANDS: Final = (
    Command(
        name="needs-human",
        help="list what no repeat will end",
        run=_needs_human,
        description="Lists the charges, cancellations and refunds that have been in flight for more"
        " than 12 hours or got an\nanswer that no repeat will change, and the payments that their"
        " orders do not have. What the payment\nservice's own needs-human lists is ended there;"
        " these follow by themselves.",
        arguments=_as_json,
    ),
)

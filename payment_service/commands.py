"""What an operator can do besides serving: list what waits for a person, and end it."""

import argparse
import getpass
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

from payment_service import bootstrap
from payment_service.application.ports import Declined, Succeeded
from payment_service.application.settle_by_hand import (
    NothingSettled,
    SettleByHand,
    Settled,
    Verdict,
)
from payment_service.config import Settings
from payment_service.domain.audit import Actor
from payment_service.storage.export import ROWS
from payment_service.storage.tables import TRAIL
from service_kit import call
from service_kit.audit.chain import ChainKey
from service_kit.audit.commands import Audit
from service_kit.audit.file import Part
from service_kit.audit.rows import read_part
from service_kit.command_line import Command
from service_kit.database import Database
from service_kit.errors import ConcurrentUpdate
from service_kit.secrets import SecretKey
from service_kit.table import show

_COLUMNS: Final = ("what", "id", "order_id", "since", "problem")
# What the gateway gets to say its last word.
_SECONDS: Final = 10.0
# As the columns that hold them.
_REFERENCE: Final = re.compile(r"[!-~]{1,64}")
_CODE: Final = re.compile(r"[a-z0-9_]{1,64}")
_NAME: Final = re.compile(r"[\w.@+-]{1,64}")
_FAILED: Final = "failed_by_operator"


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
                "problem": case.problem,
            }
            for case in cases
        ],
        as_json=options.json,
        nothing="nothing waits for a person",
    )
    return 0


def _settle(settings: Settings, options: argparse.Namespace) -> int:
    operator = options.by or _user()
    verdict: Verdict = Declined(options.code)
    if options.succeeded:
        verdict = Succeeded(options.succeeded)
    with bootstrap.settle_by_hand(settings) as settle:
        try:
            settled = _settled(settle, options.id, verdict, operator=operator)
        except (NothingSettled, ConcurrentUpdate) as error:
            sys.stderr.write(f"nothing was settled: {error}\n")
            return 1
    word = "the gateway knew it after all" if settled.by_gateway else f"as {operator} said"
    sys.stdout.write(
        f"{options.id} {settled.status} ({settled.reference or settled.decline_code}), {word}\n"
    )
    return 0


def _settled(settle: SettleByHand, item_id: str, verdict: Verdict, *, operator: str) -> Settled:
    with call.background("settle", seconds=_SECONDS) as deadline:
        by = Actor(
            role="operations", id=operator, on_behalf_of="", trace_id=deadline.trace.trace_id
        )
        settle_it = settle.refund if item_id.startswith("ref_") else settle.payment
        return settle_it(item_id, verdict, by=by, deadline=deadline)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"uid-{os.getuid()}"


def _as_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _what_and_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="PAYMENT|REFUND", help="as needs-human lists it")
    outcome = parser.add_mutually_exclusive_group(required=True)
    outcome.add_argument(
        "--succeeded",
        metavar="REFERENCE",
        type=_matching(_REFERENCE, "1 to 64 visible ASCII characters"),
        help="the money moved; the gateway's own reference",
    )
    outcome.add_argument("--failed", action="store_true", help="no money moved, and none will")
    parser.add_argument(
        "--code",
        default=_FAILED,
        type=_matching(_CODE, "1 to 64 characters of a-z, 0-9 and _"),
        help=f"with --failed: the decline code ({_FAILED})",
    )
    parser.add_argument(
        "--by",
        metavar="NAME",
        type=_matching(_NAME, "1 to 64 letters, digits and . @ + - _"),
        help="who says so, for the audit trail (who runs the command)",
    )


def _matching(pattern: re.Pattern[str], accepts: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise argparse.ArgumentTypeError(f"must be {accepts}")
        return value

    return check


def _payments_of_an_order(
    settings: Settings, options: argparse.Namespace, secret: SecretKey
) -> Sequence[Part]:
    url = settings.effective_database_url()
    with closing(Database(url, pool_size=1, read_only=True)) as database:
        key = ChainKey.of(TRAIL.service, secret)
        part = read_part(database, TRAIL, key, options.subject, ROWS)
    return [] if part.is_empty else [part]


AUDIT: Final = Audit(trail=TRAIL, noun="order", parts=_payments_of_an_order)

COMMANDS: Final = (
    Command(
        name="needs-human",
        help="list what no repeat will end",
        run=_needs_human,
        description="Lists the payments and refunds whose keys are too old to be sent to the"
        " gateway again, and the answers\nin which the gateway contradicted itself. `settle` ends"
        " the former; the latter are for whoever runs the\ngateway to explain.",
        arguments=_as_json,
    ),
    Command(
        name="settle",
        help="end what needs-human lists",
        run=_settle,
        description="Ends a payment or refund that needs-human lists, on a person's word. The"
        " gateway is asked once more: if it\nknows the outcome after all, that is what counts."
        " What the order service waits for follows by itself.",
        arguments=_what_and_how,
    ),
    AUDIT.command(),
)

"""What an operator can ask besides serving: what waits for a person, and whether all is well."""

import argparse
from collections.abc import Sequence
from typing import Final

from order_service import bootstrap
from order_service.config import GATEWAY_LEDGER, PAYMENT_DATABASE, PaymentBooks, Settings
from order_service.storage.operations import forget_callers
from order_service.storage.tables import TRAIL
from order_service.verification import command as verification
from order_service.verification.export import read_parts
from service_kit.audit.commands import Audit, CannotExport
from service_kit.audit.file import Part
from service_kit.command_line import Command
from service_kit.secrets import SecretKey
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


def _verify(settings: Settings, options: argparse.Namespace) -> int:
    theirs = PaymentBooks.load(
        payment_database=options.payment_database, gateway_ledger=options.gateway_ledger
    )
    books = verification.Books(
        order_database_url=settings.effective_database_url(),
        payment_database_url=theirs.effective_database_url(settings.data_dir),
        ledger=theirs.effective_ledger(settings.data_dir),
    )
    return verification.run(books, order_id=options.order, as_json=options.json)


def _payment_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        PAYMENT_DATABASE,
        metavar="URL",
        default="",
        help="the payment service's database; default: PAYMENT_SERVICE_DATABASE_URL, else"
        " payment.db in CHECKOUT_DATA_DIR",
    )


def _what_to_verify(parser: argparse.ArgumentParser) -> None:
    _payment_database(parser)
    parser.add_argument(
        GATEWAY_LEDGER,
        metavar="FILE",
        default="",
        help="the simulated gateway's ledger; default: PAYMENT_SERVICE_GATEWAY_LEDGER, else"
        " gateway.db in CHECKOUT_DATA_DIR; without one the rest is verified",
    )
    parser.add_argument("--order", metavar="ID", default="", help="verify this order only")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _all_of_an_order(
    settings: Settings, options: argparse.Namespace, secret: SecretKey
) -> Sequence[Part]:
    theirs = PaymentBooks.load(payment_database=options.payment_database, gateway_ledger="")
    try:
        return read_parts(
            options.subject,
            secret,
            order_trail=TRAIL,
            order_database_url=settings.effective_database_url(),
            payment_database_url=theirs.effective_database_url(settings.data_dir),
        )
    except verification.CannotVerify as error:
        raise CannotExport(str(error)) from error


AUDIT: Final = Audit(
    trail=TRAIL,
    noun="order",
    parts=_all_of_an_order,
    export_arguments=_payment_database,
    forget=forget_callers,
)

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
    Command(
        name="verify",
        help="compare both databases and the gateway's ledger, and check every guarantee",
        run=_verify,
        description="Compares both databases and the gateway's ledger, and checks every guarantee,"
        " on a running system too.\nIt changes nothing. Exit code 1: a guarantee does not hold, or"
        " cannot be checked.",
        arguments=_what_to_verify,
        # It looks at more than one database, and opens them for reading only.
        needs_schema=lambda _options: False,
    ),
    AUDIT.command(),
)

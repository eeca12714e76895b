"""The contract's command line: compare, release, document."""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from service_kit.contract.comparison import broken_promises
from service_kit.contract.descriptors import ContractImage, ImageUnreadable
from service_kit.contract.document import render
from service_kit.contract.method_contracts import ContractIncomplete, require_complete
from service_kit.contract.release import ReleaseRefused, release

RELEASED: Final = Path("proto/released/v1.binpb")
PAGE: Final = Path("docs/contract.md")

KEPT, BROKEN, REFUSED = 0, 1, 2
_DIFF_LINES_MAX: Final = 20

_CHECK_HELP: Final = """\
Compares what the RPCs promise beyond their types with an image of an earlier version. Reported
are: a transition removed or added, an error reason newly possible or no longer declared, a role
that may no longer call, idempotency weakened, an RPC removed. A new RPC, a further role and an
RPC that becomes idempotent are no breach.

exit status: 0 all promises are kept, 1 some are broken, 2 an image cannot be read or an RPC
says nothing of its roles, reasons or idempotency.
Without a released image, and without --against, there is nothing to compare with: 0."""

_CHECK_EPILOG: Final = """\
In the CI of a client, keep a copy of the image you were written against and run, with the
version you are about to move to installed:

  python -m service_kit.contract check --against our-copy.binpb

It needs neither buf nor the .proto files. Whether fields, types and names still fit is buf's
part; with the proto/ folder of that version, or its released image, at hand also run:

  buf breaking proto --against our-copy.binpb"""

_RELEASE_HELP: Final = f"""\
Builds the image of proto/ with buf and puts it in the place of {RELEASED}.

CHANGELOG.md has to tell of it: the newest section that says anything (an empty '## [Unreleased]'
is passed over) needs a '### Contract' part with at least one bullet, and that part has to name
every RPC that is new, removed or promises something else. Run it in the project's root folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (ImageUnreadable, ContractIncomplete, ReleaseRefused) as error:
        print(f"{options.verb}: {error}", file=sys.stderr)
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service_kit.contract",
        description="What the RPCs promise beyond their types: compare it, release it, read it.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def verb(
        name: str, summary: str, description: str = "", epilog: str = ""
    ) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name,
            help=summary,
            description=description or summary,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    check = verb("check", "fail if a released promise is broken", _CHECK_HELP, _CHECK_EPILOG)
    check.add_argument(
        "--image",
        type=Path,
        metavar="PATH",
        help="the version to check (default: the installed one)",
    )
    check.add_argument(
        "--against",
        type=Path,
        metavar="PATH",
        help=f"the version whose promises count (default: {RELEASED})",
    )
    check.set_defaults(command=_check)

    accept = verb("release", "accept the current contract as the released one", _RELEASE_HELP)
    accept.set_defaults(command=_release)

    document = verb("document", "write the contract as a page of Markdown")
    document.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the page is stale"
    )
    document.add_argument(
        "--output", type=Path, default=PAGE, metavar="PATH", help="default: %(default)s"
    )
    document.set_defaults(command=_document)
    return parser


def _check(options: argparse.Namespace) -> int:
    image = ContractImage.load(options.image) if options.image else ContractImage.installed()
    against: Path = options.against or RELEASED
    unreleased = options.against is None and not against.exists()
    released = {} if unreleased else ContractImage.load(against).contracts
    broken = broken_promises(released, image.contracts)
    for promise in broken:
        print(promise)
    if broken:
        print(f"broken promises of {against}: {len(broken)}", file=sys.stderr)
        return BROKEN
    for contract in image.contracts.values():
        require_complete(contract)
    if unreleased:
        print(f"no contract is released yet ({against}): nothing to compare with")
    else:
        print(f"{len(released)} RPCs keep all their promises of {against}")
    return KEPT


def _release(_options: argparse.Namespace) -> int:
    if release(Path(), RELEASED):
        print(f"{RELEASED} is the released contract now; commit it together with CHANGELOG.md")
    else:
        print(f"{RELEASED} is this contract already")
    return KEPT


def _document(options: argparse.Namespace) -> int:
    page: Path = options.output
    text = render(ContractImage.installed())
    if not options.check:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
        return KEPT
    written = page.read_text(encoding="utf-8") if page.exists() else ""
    if written == text:
        return KEPT
    difference = difflib.unified_diff(
        written.splitlines(), text.splitlines(), str(page), "the contract", lineterm="", n=1
    )
    print(*islice(difference, _DIFF_LINES_MAX), sep="\n")
    print(f"{page} is stale: run python -m service_kit.contract document", file=sys.stderr)
    return BROKEN


if __name__ == "__main__":
    sys.exit(main())

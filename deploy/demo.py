"""make demo: both services as real processes, a whole checkout, every answer checked."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from deploy.processes import NotServing, Pair, running
from deploy.screen import Screen, wants_colour
from deploy.stage import Stage, Unexpected
from deploy.story import tell, tell_secured

TRY_IT = (
    "make serve",
    "",
    ".venv/bin/grpcurl -plaintext 127.0.0.1:50051 list",
    ".venv/bin/grpcurl -plaintext -H 'x-actor-id: alice' -H 'x-actor-role: customer' \\",
    '  -d \'{"idempotency_key": "my-first-order", "items": [{"sku": "MUG-1", "name": "Mug",',
    '       "quantity": 2, "unit_price": {"currency_code": "EUR", "minor_units": 1250}}]}\' \\',
    "  127.0.0.1:50051 checkout.order.v1.OrderService/CreateOrder",
    ".venv/bin/grpcurl -plaintext -H 'x-actor-id: olga' -H 'x-actor-role: operations' \\",
    "  127.0.0.1:50051 checkout.order.v1.OrderService/ListOrderAuditEntries",
)


TRY_IT_SECURED = (
    "make certs",
    "make serve SECURE=1",
    "",
    "token=$(.venv/bin/python -m deploy.credentials token customer alice)",
    ".venv/bin/grpcurl -cacert .data/credentials/ca.pem -cert .data/credentials/edge.pem \\",
    '  -key .data/credentials/edge.key -H "authorization: Bearer $token" \\',
    '  -d \'{"idempotency_key": "my-first-order", "items": [{"sku": "MUG-1", "name": "Mug",',
    '       "quantity": 2, "unit_price": {"currency_code": "EUR", "minor_units": 1250}}]}\' \\',
    "  127.0.0.1:50051 checkout.order.v1.OrderService/CreateOrder",
)


def run(
    screen: Screen,
    story: Callable[[Stage], None] = tell,
    variables: Mapping[str, str] | None = None,
    *,
    secured: bool = False,
) -> int:
    """Start both services, tell the story, end them. Returns the exit code."""
    began = time.monotonic()
    try:
        with running(variables, secured=secured) as pair, Stage(pair, screen) as stage:
            _introduce(screen, pair, time.monotonic() - began, secured=secured)
            try:
                story(stage)
            except Unexpected as error:
                _explain(screen, pair, error)
                return 1
    except NotServing as error:
        screen.heading(screen.styled(f"✗ {error}", "red"))
        screen.line(error.log)
        return 1
    done = f"{screen.steps} steps, everything as expected, in {time.monotonic() - began:.1f} s"
    screen.heading(screen.styled(f"✓ {done}", "green"))
    _invite(screen, TRY_IT_SECURED if secured else TRY_IT)
    return 0


def _introduce(screen: Screen, pair: Pair, seconds: float, *, secured: bool) -> None:
    title = "Checkout: both services as processes of this machine, over SQLite"
    if secured:
        title += ", mTLS and tokens"
    screen.line(f"{screen.styled(title, 'bold')}, started in {seconds:.1f} s")
    screen.line()
    screen.facts(
        (process.module, f"{process.address}   {screen.styled('SERVING', 'green')}")
        for process in pair.processes
    )


def _explain(screen: Screen, pair: Pair, error: Unexpected) -> None:
    screen.broken(error.fact, expected=str(error.expected), came=str(error.came))
    for process in pair.processes:
        screen.heading(f"The last lines of the {process.module} log")
        screen.line(process.log_tail())


def _invite(screen: Screen, commands: Sequence[str]) -> None:
    screen.heading("Now by hand: docs/grpcurl.md has the whole checkout, this is its beginning.")
    screen.line()
    screen.commands(*commands)


def main() -> int:
    """Run the demo on standard output."""
    parser = argparse.ArgumentParser(description="Watch a whole checkout.")
    parser.add_argument("--secured", action="store_true", help="over mTLS and with tokens")
    secured = parser.parse_args().secured
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Whatever the terminal cannot write is no reason to fail.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        screen = Screen(sys.stdout, colour=wants_colour(sys.stdout, os.environ))
        return run(screen, tell_secured if secured else tell, secured=secured)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())

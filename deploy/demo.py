"""make demo: both services as real processes, a whole checkout, every answer checked."""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

from deploy.processes import NotServing, Pair, running
from deploy.screen import Screen, wants_colour
from deploy.stage import Stage, Unexpected
from deploy.story import tell

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


def run(
    screen: Screen,
    story: Callable[[Stage], None] = tell,
    variables: Mapping[str, str] | None = None,
) -> int:
    """Start both services, tell the story, end them. Returns the exit code."""
    began = time.monotonic()
    try:
        with running(variables) as pair, Stage(pair, screen) as stage:
            _introduce(screen, pair, time.monotonic() - began)
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
    _invite(screen)
    return 0


def _introduce(screen: Screen, pair: Pair, seconds: float) -> None:
    title = "Checkout: both services as processes of this machine, over SQLite"
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


def _invite(screen: Screen) -> None:
    screen.heading("Now by hand: docs/grpcurl.md has the whole checkout, this is its beginning.")
    screen.line()
    screen.commands(*TRY_IT)


def main() -> int:
    """Run the demo on standard output."""
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Whatever the terminal cannot write is no reason to fail.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        return run(Screen(sys.stdout, colour=wants_colour(sys.stdout, os.environ)))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())

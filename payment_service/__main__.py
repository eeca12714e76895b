"""python -m payment_service: serve, migrate the database, and what an operator decides."""

import gc
import sys
from collections.abc import Sequence
from typing import Final

if __name__ == "__main__":
    # What is loaded here stays: whoever looks for garbage in between finds none, and takes a tenth
    # of the start for it.
    gc.disable()

from payment_service.bootstrap import MIGRATIONS, build
from payment_service.config import Settings
from payment_service.gateways.simulated_tokens import TOKENS
from payment_service.rpc.servicer import SERVICE
from service_kit.command_line import Command, Program

_WIDTH: Final = max(map(len, TOKENS))


def _commands() -> Sequence[Command[Settings]]:
    # What they need takes as long to load as all that serves.
    from payment_service.commands import COMMANDS  # noqa: PLC0415

    return COMMANDS


PROGRAM: Final = Program(
    module="payment_service",
    summary="The payment service: takes money for orders and gives it back.",
    contract=SERVICE,
    settings=Settings,
    build=build,
    migrations=MIGRATIONS,
    commands=_commands,
    notes="payment tokens of the simulated gateway:\n\n"
    + "\n".join(f"{name:<{_WIDTH}}  {token.description}" for name, token in TOKENS.items()),
)

if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(PROGRAM.run())

"""python -m order_service: serve, migrate the database, and what an operator asks."""

import gc
import sys
from collections.abc import Sequence
from typing import Final

if __name__ == "__main__":
    # What is loaded here stays: whoever looks for garbage in between finds none, and takes a tenth
    # of the start for it.
    gc.disable()

from order_service.bootstrap import MIGRATIONS, build
from order_service.config import Settings
from order_service.rpc.servicer import SERVICE
from service_kit.command_line import Command, Program


def _commands() -> Sequence[Command[Settings]]:
    # What they need takes as long to load as all that serves.
    from order_service.commands import COMMANDS  # noqa: PLC0415

    return COMMANDS


PROGRAM: Final = Program(
    module="order_service",
    summary="The order service: orders, their life cycle, their payment, their history.",
    contract=SERVICE,
    settings=Settings,
    build=build,
    migrations=MIGRATIONS,
    commands=_commands,
)

if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(PROGRAM.run())

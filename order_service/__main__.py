"""python -m order_service: serve, migrate the database, and what an operator asks."""

import sys
from typing import Final

from order_service.bootstrap import MIGRATIONS, build
from order_service.commands import COMMANDS
from order_service.config import Settings
from order_service.rpc.servicer import SERVICE
from service_kit.command_line import Program

PROGRAM: Final = Program(
    module="order_service",
    summary="The order service: orders, their life cycle, their payment, their history.",
    contract=SERVICE,
    settings=Settings,
    build=build,
    migrations=MIGRATIONS,
    commands=COMMANDS,
)

if __name__ == "__main__":
    sys.exit(PROGRAM.run())

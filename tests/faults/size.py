"""How much the attack does: `FAULTS_SIZE` is a factor for everything that is repeated."""

import os
from typing import Final

SIZE: Final = "FAULTS_SIZE"


def sized(count: int) -> int:
    """So many repeats at the usual size; fewer or more at another, at least one."""
    return max(1, round(count * float(os.environ.get(SIZE) or 1)))

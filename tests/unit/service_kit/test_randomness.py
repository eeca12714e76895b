"""Random bytes are nobody else's, although many are fetched at a time."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from service_kit.randomness import PORTION_BYTES, random_bytes

_FORKED = """
import os, sys
from service_kit.randomness import random_bytes
random_bytes(16)
child = os.fork()
sys.stdout.write(random_bytes(16).hex() + chr(10))
sys.stdout.flush()
if child:
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("count", [0, 1, 8, PORTION_BYTES])
def test_there_are_as_many_as_asked_for(count: int) -> None:
    assert len(random_bytes(count)) == count


def test_more_than_a_portion_is_refused() -> None:
    with pytest.raises(AssertionError):
        random_bytes(PORTION_BYTES + 1)


def test_threads_never_get_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: random_bytes(PORTION_BYTES), range(4000)))
    assert len(set(got)) == len(got)


def test_a_forked_process_has_its_own() -> None:
    command = [sys.executable, "-c", _FORKED]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert len(set(lines)) == len(lines) == 2

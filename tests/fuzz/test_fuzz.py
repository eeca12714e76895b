"""Whatever is sent, the answer is clean, nothing leaks, nothing grows, and the books are right.

A few seconds of each here; `make fuzz MINUTES=…` goes on for longer. FUZZ_SEED repeats a failure,
which tells its seed.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
import pytest

from tests.client import ORDER_SERVICE_NAME
from tests.fuzz.attack import OTHERS, PEER, Attack, attacked
from tests.fuzz.fuzzer import Fuzzer
from tests.fuzz.known import Known
from tests.fuzz.targets import targets_of

pytestmark = pytest.mark.requirement("FR-355")

SEED: Final = "FUZZ_SEED"
SECONDS: Final = 4.0


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    """Both services as processes, and a seed that is told if the test fails."""
    seed = int(os.environ.get(SEED) or secrets.randbelow(1_000_000_000))
    sys.stdout.write(f"repeat with {SEED}={seed}\n")
    with attacked(tmp_path, seed=seed) as attack:
        yield attack


def test_the_same_seed_makes_the_same_calls() -> None:
    calls, targets = [], tuple(targets_of(ORDER_SERVICE_NAME))
    for _ in range(2):
        with grpc.insecure_channel("127.0.0.1:1") as channel:
            fuzzer = Fuzzer(channel, targets, seed=7, known=Known())
            calls.append([fuzzer.call(number) for number in range(500)])
    assert calls[0] == calls[1]
    assert len({call.target for call in calls[0]}) == len(targets)


def test_threat_21_calls_of_anybody_are_answered_cleanly_and_move_no_money_wrongly(
    attack: Attack,
) -> None:
    attack.calls(SECONDS, roles=OTHERS)
    assert attack.problems() == []
    assert {"OK", "INVALID_ARGUMENT VALIDATION_FAILED"} <= set(attack.outcomes)
    assert attack.verify().startswith("0 violations in ")


def test_threat_21_calls_in_the_name_of_the_order_service_are_answered_cleanly(
    attack: Attack,
) -> None:
    """It is believed, so the books may be wrong afterwards; nothing else may."""
    attack.calls(SECONDS, roles=PEER)
    assert attack.problems() == []


def test_threat_21_what_is_no_call_at_all_harms_nobody(attack: Attack) -> None:
    attack.frames(SECONDS)
    assert attack.connections > 20
    assert attack.problems() == []
    attack.calls(0, roles=OTHERS)

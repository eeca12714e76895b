"""The bugs to plant fit the source as it is: one that no longer does would find nothing."""

import subprocess
from pathlib import Path

import pytest

from tests.faults.selftest import BUGS, ROOT


@pytest.mark.parametrize("bug", sorted(BUGS.glob("*.diff")), ids=lambda bug: bug.stem)
def test_can_be_planted(bug: Path) -> None:
    command = ["git", "apply", "--check", str(bug)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert bug.read_text("utf-8").startswith("Takes out: ")

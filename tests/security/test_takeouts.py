"""What `make security-selftest` takes out is there to be taken out."""

import shutil
from pathlib import Path

import pytest

from tests.security.selftest import take_out
from tests.security.takeouts import TAKEOUTS, Takeout
from tests.security.test_threat_table import ROOT, named_tests


@pytest.mark.requirement("FR-377")
@pytest.mark.parametrize("takeout", TAKEOUTS, ids=lambda takeout: f"threat {takeout.threat}")
def test_a_defence_is_there_and_tests_show_it(takeout: Takeout, tmp_path: Path) -> None:
    file = tmp_path / takeout.file
    file.parent.mkdir(parents=True)
    shutil.copy2(ROOT / takeout.file, file)

    take_out(takeout, tmp_path)

    compile(file.read_text("utf-8"), takeout.file, "exec")
    assert named_tests(takeout.threat)

"""make security-selftest: take out a defence, and see the tests that show it fail.

Each defence of `takeouts.py` is taken out of a copy of the source in which nothing else is changed;
then the tests that its row in docs/security.md names run against the copy, until one fails. Exit
code 1 if none does, for any of them.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.faults.selftest import planted
from tests.security.takeouts import TAKEOUTS, Takeout
from tests.security.test_threat_table import named_tests

_SECONDS_MAX: Final = 600
# What pytest answers when tests ran and some failed; anything else is no finding.
_TESTS_FAILED: Final = 1


def main() -> int:
    """Take out every defence and print what noticed it. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="copies at the same time")
    options = parser.parse_args()
    with ThreadPoolExecutor(options.jobs) as threads:
        noticed = [*threads.map(_is_noticed, TAKEOUTS)]
    print(f"{sum(noticed)} of {len(noticed)} missing defences noticed")
    return int(not all(noticed))


def _is_noticed(takeout: Takeout) -> bool:
    began = time.monotonic()
    with planted(None) as copy:
        take_out(takeout, copy)
        done = _run(named_tests(takeout.threat), copy)
    if done.returncode not in {0, _TESTS_FAILED}:
        raise SystemExit(f"threat {takeout.threat} was not tested:\n{done.stdout[-3000:]}")
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    by = failed[0].removeprefix("FAILED ").partition(" - ")[0] if failed else "NOT NOTICED"
    seconds = time.monotonic() - began
    print(f"{seconds:6.1f} s  threat {takeout.threat:2}, {takeout.file}: {by}", flush=True)
    return bool(failed)


def take_out(takeout: Takeout, folder: Path) -> None:
    """Change the source in a folder. Raises ValueError unless the defence is there, once."""
    file = folder / takeout.file
    source = file.read_text("utf-8")
    if source.count(takeout.defence) != 1:
        raise ValueError(f"{takeout.file} has not just one {takeout.defence!r}")
    file.write_text(source.replace(takeout.defence, takeout.instead), "utf-8")


def _run(tests: list[str], copy: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=copy,
        # The environment's own way to the source tree leads to the original.
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(copy), str(copy / "generated")])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_SECONDS_MAX,
    )


if __name__ == "__main__":
    sys.exit(main())

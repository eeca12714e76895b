"""make faults-selftest: plant each bug in a copy of the source tree, and see which layer finds it.

A bug is a change of the product's source (`bugs/*.diff`), made in a copy in which nothing else is
changed. The layers of the attack run against the copy, smaller than usual, until one of them fails.
Before that they all have to pass on a copy without a bug: a layer that fails anyway finds nothing,
and the one that was quickest there runs first. Exit code 1 if a bug stays unfound.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.faults.size import SIZE

ROOT: Final = Path(__file__).resolve().parents[2]
BUGS: Final = Path(__file__).with_name("bugs")
REPORT: Final = ROOT / "build" / "selftest.json"
_LAYER_SECONDS_MAX: Final = 600
# What pytest answers when tests ran and some failed; anything else is no finding.
_TESTS_FAILED: Final = 1
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Layer:
    """A part of the attack, and how small it may be to be quick."""

    name: str
    files: tuple[str, ...]
    size: float = 1.0


LAYERS: Final = (
    Layer("open transactions", ("test_open_transactions.py",)),
    Layer("races", ("test_worker_races.py", "test_races.py", "test_payment_races.py"), 0.1),
    Layer("stateful", ("test_stateful.py",), 0.1),
    Layer("clocks", ("test_clocks.py",)),
    Layer("deadlines", ("test_deadlines.py",)),
    Layer("late requests", ("test_late_requests.py",)),
    Layer("named kills", ("test_named_points.py",)),
    Layer("random kills", ("test_random_kills.py",), 0.5),
    Layer("zombies", ("test_zombies.py",)),
    Layer("network", ("test_network.py",), 0.3),
    Layer("planted replies", ("test_planted_replies.py",), 0.3),
    Layer(
        "stores",
        ("test_postgres_errors.py", "test_redis_troubles.py", "test_sqlite_troubles.py"),
        0.3,
    ),
)


@dataclass(frozen=True)
class Finding:
    """Which layer found a bug, by which test, and after how many seconds of looking."""

    bug: str
    layer: str
    test: str
    problem: str
    seconds: float


@contextmanager
def planted(bug: Path | None) -> Iterator[Path]:
    """Make a copy of the source tree with the bug in it."""
    with tempfile.TemporaryDirectory(prefix="checkout-bug-") as folder:
        copy = Path(folder)
        for name in _tracked():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        if bug:
            subprocess.run(["git", "apply", str(bug)], cwd=copy, check=True)
        yield copy


def _tracked() -> list[str]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others"]
    listed = subprocess.run([*command, "--exclude-standard"], capture_output=True, check=True)
    names = listed.stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def find(bug: Path, layers: Sequence[Layer]) -> Finding:
    """Run the layers against the bug until one fails; the layer is empty if none does."""
    began = time.monotonic()
    with planted(bug) as copy:
        for layer in layers:
            failure = _failure(layer, copy)
            if failure:
                return Finding(bug.stem, layer.name, *failure, time.monotonic() - began)
    return Finding(bug.stem, "", "", "", time.monotonic() - began)


def _failure(layer: Layer, copy: Path) -> tuple[str, str] | None:
    """Run a layer in a copy. Returns the test that failed first and its sentence."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            # A layer has a time limit of its own; one of its tests may take nearly as long.
            *("-o", f"faulthandler_timeout={_LAYER_SECONDS_MAX}"),
            *(f"tests/faults/{file}" for file in layer.files),
        ],
        cwd=copy,
        # The environment's own way to the source tree leads to the original.
        env={
            **os.environ,
            SIZE: str(layer.size),
            "PYTHONPATH": os.pathsep.join([str(copy), str(copy / "generated")]),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_LAYER_SECONDS_MAX,
    )
    if done.returncode == 0:
        return None
    failed = _FAILED.search(done.stdout)
    if done.returncode != _TESTS_FAILED or failed is None:
        raise RuntimeError(f"{layer.name} did not run:\n{done.stdout[-3000:]}")
    return failed[1].removeprefix("tests/faults/"), (failed[2] or "")[:160]


def _quickest_first(layers: Sequence[Layer], jobs: int) -> list[Layer]:
    """Run the layers on a copy without a bug. Raises SystemExit if one fails there."""

    def run(layer: Layer) -> float:
        began = time.monotonic()
        if failure := _failure(layer, copy):
            raise SystemExit(f"{layer.name} fails without a bug: {' '.join(failure)}")
        took = time.monotonic() - began
        print(f"{took:7.1f} s  without a bug: {layer.name} passes", flush=True)
        return took

    with planted(None) as copy, ThreadPoolExecutor(jobs) as threads:
        seconds = dict(zip(layers, threads.map(run, layers), strict=True))
    return sorted(layers, key=lambda layer: seconds[layer])


def main() -> int:
    """Plant every bug and print who finds it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-k", dest="only", default="", help="only bugs with this in their name")
    parser.add_argument("--jobs", type=int, default=2, help="copies at the same time")
    options = parser.parse_args()
    bugs = [bug for bug in sorted(BUGS.glob("*.diff")) if options.only in bug.stem]
    layers = _quickest_first(LAYERS, options.jobs)
    findings = []
    with ThreadPoolExecutor(options.jobs) as threads:
        for ended in as_completed([threads.submit(find, bug, layers) for bug in bugs]):
            finding = ended.result()
            findings.append(finding)
            by = f"{finding.layer}: {finding.test}" if finding.layer else "NOT FOUND"
            print(f"{finding.seconds:7.1f} s  {finding.bug}: {by}", flush=True)
    findings.sort(key=lambda finding: finding.bug)
    found = [finding.seconds for finding in findings if finding.layer]
    seconds = f", {median(found):.0f} s to find one (median)" if found else ""
    print(f"{len(found)} of {len(bugs)} planted bugs found{seconds}")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    return int(len(found) < len(bugs))


if __name__ == "__main__":
    sys.exit(main())

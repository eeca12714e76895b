"""Accepting the current contract as the released one."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from service_kit.contract.changelog import newest_contract_entry
from service_kit.contract.comparison import broken_promises
from service_kit.contract.descriptors import ContractImage


class ReleaseRefused(Exception):
    """The contract cannot be accepted as it is; the message says what is missing."""


def release(root: Path, released: Path) -> bool:
    """Build the image of the protos under `root` and put it in the place of the released one.

    Returns False, and changes nothing, when the contract is the released one already. Raises
    ReleaseRefused unless `root/CHANGELOG.md` tells of the change.
    """
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "contract.binpb"
        _build(root, built)
        if released.exists() and released.read_bytes() == built.read_bytes():
            return False
        _refuse_without_entry(root / "CHANGELOG.md", _changed_rpcs(released, built))
        released.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place first: a release that is cut off leaves the old image whole.
        arriving = released.with_suffix(".new")
        shutil.copyfile(built, arriving)
        arriving.replace(released)
    return True


def _build(root: Path, image: Path) -> None:
    buf = shutil.which("buf") or shutil.which("buf", path=Path(sys.executable).parent)
    if buf is None:
        raise ReleaseRefused("buf is not installed (pip install buf-bin)")
    command = [buf, "build", "--exclude-source-info", "-o", str(image)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseRefused(f"buf build failed: {'; '.join(done.stderr.splitlines())}")


def _changed_rpcs(released: Path, built: Path) -> list[str]:
    # Of a first image everything is new; nobody needs it listed.
    if not released.exists():
        return []
    before, after = ContractImage.load(released).contracts, ContractImage.load(built).contracts
    # What the old contract would break for clients of the new one is what was added.
    changes = broken_promises(before, after) + broken_promises(after, before)
    return sorted({change.method.rpartition("/")[2] for change in changes})


def _refuse_without_entry(changelog: Path, changed_rpcs: Sequence[str]) -> None:
    text = changelog.read_text(encoding="utf-8") if changelog.exists() else ""
    entry = newest_contract_entry(text)
    if not entry.text:
        place = f"under '## {entry.section}'" if entry.section else "under '## [Unreleased]'"
        raise ReleaseRefused(
            f"{changelog.name} does not tell of the change: add a '### Contract' section with at "
            f"least one bullet {place}"
        )
    unnamed = [rpc for rpc in changed_rpcs if not entry.names(rpc)]
    if unnamed:
        raise ReleaseRefused(
            f"the '### Contract' section under '## {entry.section}' in {changelog.name} does not "
            f"name {', '.join(unnamed)}, whose promises change"
        )

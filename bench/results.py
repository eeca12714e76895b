"""What has been measured, one file for each case, and for each of the other measurements."""

import json
from typing import Any, Final

from deploy.processes import ROOT

RESULTS: Final = ROOT / "build" / "bench"


def keep(name: str, result: dict[str, Any]) -> None:
    """Write a result where the table finds it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def kept(name: str) -> dict[str, Any] | None:
    """Read a result, if there is one."""
    try:
        result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    return result

"""Commands in a Markdown page, run for real, and what they put out.

A block of commands is fenced as `sh`; a block fenced as `text` or `json` right after it is their
output.
"""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

_FENCE: Final = re.compile(
    r"^```sh\n(?P<commands>.*?)^```\n(?:\n```(?:text|json)\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
# Stands in no output: the record separator of ASCII.
_SEPARATOR: Final = "\x1e"
_SECONDS: Final = 60

# What differs from run to run. What is told apart is numbered, so that two that were the same
# must be the same again.
_VARYING: Final = re.compile(
    r"(?P<ID>\b(?:ord|pay|ref)_[0-9a-f]{32}\b)"
    r"|(?P<TRACE>\b[0-9a-f]{32}\b)"
    r"|(?P<TICKET>\beyJ[\w-]+\.[\w-]+\.[\w-]+)"
    r"|(?P<ADDRESS>\b127\.0\.0\.1:\d+\b)"
    r"|(?P<time>\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)"
    r"|(?P<seconds>\b\d+\.\d+ ?s\b)"
)


def commands_of(page: str) -> list[str]:
    """Return the blocks of commands."""
    return [block["commands"] for block in _FENCE.finditer(page)]


def outputs_of(page: str) -> list[str | None]:
    """Return what the page shows as the output of each block; None where it shows nothing."""
    return [block["output"] for block in _FENCE.finditer(page)]


def with_outputs(page: str, outputs: Sequence[str]) -> str:
    """Return the page with these outputs, if they differ in more than ids, times and ports."""
    blocks = list(_FENCE.finditer(page))
    shown = [(b, new) for b, new in zip(blocks, outputs, strict=True) if b["output"] is not None]
    if masked(_joined(b["output"] for b, _ in shown)) == masked(_joined(new for _, new in shown)):
        return page
    # From the end, so that the places of those before stay as they are.
    for block, new in reversed(shown):
        page = page[: block.start("output")] + new + page[block.end("output") :]
    return page


def play(commands: Sequence[str], *, folder: Path, addresses: Mapping[str, str]) -> list[str]:
    """Run the blocks one after the other in one bash, and return what each put out.

    `addresses` says what stands in place of an address in the commands; in the output it is
    turned back.
    """
    script = "".join(f"printf '{_SEPARATOR}'\n{block}" for block in commands)
    for written, real in addresses.items():
        script = script.replace(written, real)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    output = done.stdout
    for written, real in addresses.items():
        output = output.replace(real, written)
    return [part if part.endswith("\n") else f"{part}\n" for part in output.split(_SEPARATOR)[1:]]


def masked(text: str) -> str:
    """Return the text without what differs from run to run: ids, tickets, times, addresses."""
    seen: dict[str, str] = {}

    def mask(found: re.Match[str]) -> str:
        kind = str(found.lastgroup)
        if kind.islower():
            return kind
        return seen.setdefault(found[0], f"{kind}-{len(seen)}")

    return _VARYING.sub(mask, text)


def _joined(outputs: Iterable[str]) -> str:
    return _SEPARATOR.join(outputs)

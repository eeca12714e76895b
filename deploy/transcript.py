"""Commands in a Markdown page, run for real, and what they put out.

A block of commands is fenced as `sh`; a block fenced as `text` or `json` right after it is their
output.
"""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_FENCE: Final = re.compile(
    r"^```sh\n(?P<commands>.*?)^```\n(?:\n```(?:text|json)\n(?P<output>.*?)^```\n)?", re.M | re.S
)
# Stands in no output: the record separator of ASCII.
_SEPARATOR: Final = "\x1e"
_SECONDS: Final = 60

# What differs from run to run, and what stands for it in a comparison.
_MASKS: Final = (
    (re.compile(r"\b(ord|pay|ref)_[0-9a-f]{32}\b"), r"\1_ID"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+"), "TICKET"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "TRACE"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"\b127\.0\.0\.1:\d+\b"), "ADDRESS"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "SECONDS"),
)


def commands_of(page: str) -> list[str]:
    """Return the blocks of commands."""
    return [block["commands"] for block in _FENCE.finditer(page)]


def outputs_of(page: str) -> list[str | None]:
    """Return what the page shows as the output of each block; None where it shows nothing."""
    return [block["output"] for block in _FENCE.finditer(page)]


def with_outputs(page: str, outputs: Sequence[str]) -> str:
    """Return the page with these outputs, where it shows any that differ in more than a mask."""
    fresh = iter(outputs)

    def replaced(block: re.Match[str]) -> str:
        output, shown = next(fresh), block["output"]
        if shown is None or masked(shown) == masked(output):
            return block[0]
        start = block.start("output") - block.start()
        end = block.end("output") - block.start()
        return block[0][:start] + output + block[0][end:]

    return _FENCE.sub(replaced, page)


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
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text

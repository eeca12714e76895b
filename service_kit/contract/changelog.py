"""What CHANGELOG.md says about the contract (https://keepachangelog.com)."""

import re
from dataclasses import dataclass
from typing import Final

_SECTION: Final = re.compile(r"^## +(.+?) *$", re.MULTILINE)
_CONTRACT: Final = re.compile(r"^### +Contract *$(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
_BULLET: Final = re.compile(r"^ *[-*] +\S", re.MULTILINE)


@dataclass(frozen=True)
class ContractEntry:
    """The `### Contract` part of the newest section that says anything.

    `section` is that section's heading, empty when there is none; `text` is empty when it has
    no such part, or one without a bullet.
    """

    section: str
    text: str

    def names(self, word: str) -> bool:
        """Say whether the entry has the word, on its own and spelled exactly so."""
        return re.search(rf"\b{re.escape(word)}\b", self.text) is not None


def newest_contract_entry(changelog: str) -> ContractEntry:
    """Find the entry that a release of the contract has to have.

    An empty `## [Unreleased]` above a finished version is passed over.
    """
    _, *parts = _SECTION.split(changelog)
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        if not body.strip():
            continue
        entry = _CONTRACT.search(body)
        text = entry.group(1).strip() if entry else ""
        return ContractEntry(heading, text if _BULLET.search(text) else "")
    return ContractEntry("", "")

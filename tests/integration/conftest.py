"""What the databases of this process are asked."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service_kit import compiled
from service_kit.database import Database
from service_kit.statements import Draft


class Watched:
    """Watches all databases of this process until the test is over.

    `locked` is what was run with locks, `statements` what was asked, by their first words.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.locked: list[str] = []
        self.statements: list[str] = []
        self._monkeypatch = monkeypatch
        # All of them pass there.
        transact, execute = Database._transact, compiled._execute

        def noted(database: Database, work: Callable[..., Any], *arguments: Any) -> Any:
            self.locked.append(work.__qualname__)
            return transact(database, work, *arguments)

        def counted(connection: Any, text: str, values: Any) -> Any:
            self.statements.append(text.split(maxsplit=1)[0])
            return execute(connection, text, values)

        monkeypatch.setattr(Database, "_transact", noted)
        monkeypatch.setattr(compiled, "_execute", counted)

    def once_in_between(self, happens: Callable[[], Any]) -> None:
        """Have something happen between what the next draft reads and what it writes."""
        make, left = Draft.make, [happens]

        def overtaken(draft: Draft) -> None:
            if left:
                # It is another call: of another thread.
                with ThreadPoolExecutor(1) as thread:
                    thread.submit(left.pop()).result()
            make(draft)

        self._monkeypatch.setattr(Draft, "make", overtaken)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """What the databases of this process are asked during a test."""
    return Watched(monkeypatch)

"""Which changes are tried without locks first: by themselves all, and the locks come off badly.

For the blocks below some or all of them, in this process, lock from the beginning.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

from service_kit.database import Database
from service_kit.statements import NotDrafted, Session

T = TypeVar("T")

_database: Any = Database
_draft: Any = Database._draft


@contextmanager
def tried_without_locks(share: float) -> Iterator[None]:
    """Try a share of all changes without locks, at random, whatever the block around says."""
    choices = Random()  # noqa: S311 - of which nothing that anybody sees may depend
    before = _database._draft

    def perhaps(self: Database, work: Callable[[Session], T]) -> T:
        if choices.random() >= share:
            raise NotDrafted
        result: T = _draft(self, work)
        return result

    _database._draft = perhaps
    try:
        yield
    finally:
        _database._draft = before

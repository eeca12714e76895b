"""The last few values that somebody left for a later step of the same call."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most `limit` values, from the newest; each is taken once.

    Whoever takes one must be able to do without it, and must not believe it: another process may
    have changed what it tells of.
    """

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()

    def leave(self, key: K, value: V) -> None:
        """Leave a value, in the place of the oldest if there are too many."""
        self._values[key] = value
        if len(self._values) > self._limit:
            self._values.popitem(last=False)

    def take(self, key: K) -> V | None:
        """Take a value away, if it is there."""
        return self._values.pop(key, None)

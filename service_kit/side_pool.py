"""Threads for the calls that must be answered while every ordinary thread is busy."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class OnSidePool:
    """A handler that grpc runs on a pool of its own rather than on the server's.

    grpc looks for the two attributes on the handler it is given. A stream that is
    `non_blocking` gets a callback for its replies and holds no thread between them.
    """

    def __init__(
        self, handler: Callable[..., Any], pool: ThreadPoolExecutor, *, non_blocking: bool = False
    ) -> None:
        self._handler = handler
        self.experimental_thread_pool = pool
        self.experimental_non_blocking = non_blocking

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Handle the call."""
        return self._handler(*arguments, **named)

    def wrapped(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> "OnSidePool":
        """Return a handler with something around it, run on the same pool."""
        return OnSidePool(
            wrap(self._handler),
            self.experimental_thread_pool,
            non_blocking=self.experimental_non_blocking,
        )

"""A short memory of final replies in front of the database.

It saves the database a look-up and decides nothing: a reply that is missing, forged or
meant for something else is a miss, and the database answers.
"""

from collections.abc import Callable
from typing import Protocol

from service_kit.idempotency.record import KeyedRequest, Reply
from service_kit.settings import ServiceSettings


class ReplyMemory(Protocol):
    """Remembers final replies for a while."""

    def recall(self, request: KeyedRequest) -> Reply | None:
        """Return the reply to exactly this request, if it is remembered."""

    def remember(self, request: KeyedRequest, reply: Reply) -> None:
        """Keep the final reply."""

    def close(self) -> None:
        """Let go of connections."""


class NoReplyMemory:
    """Remembers nothing: the database answers every repeat."""

    def recall(self, request: KeyedRequest) -> Reply | None:
        """Return nothing."""

    def remember(self, request: KeyedRequest, reply: Reply) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def reply_memory(
    settings: ServiceSettings, *, service: str, instance: Callable[[], str], mac_key: bytes
) -> ReplyMemory:
    """Return the memory that the settings ask for; none without a Redis.

    `instance` reads the id of the database whose replies these are.
    """
    if not settings.redis_url:
        return NoReplyMemory()
    # Only who has a Redis waits for its client to be loaded.
    from service_kit.idempotency.redis_memory import RedisReplyMemory  # noqa: PLC0415

    return RedisReplyMemory(
        settings.redis_url,
        service=service,
        instance=instance(),
        mac_key=mac_key,
        ttl_seconds=settings.replay_ttl_seconds,
    )

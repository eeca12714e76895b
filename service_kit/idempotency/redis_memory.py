"""The short memory of final replies in Redis."""

import hashlib
import hmac
import threading
import time
from typing import Any, Final

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from service_kit.idempotency.record import REDIS, KeyedRequest, Reply
from service_kit.mac import hmac_sha256

_MAC_BYTES: Final = 32
_OK: Final = b"\x01"
_REFUSED: Final = b"\x00"


class RedisReplyMemory:
    """Remembers replies in Redis, each under a MAC over everything it answers.

    The MAC covers service, database instance, role, caller, key, fingerprint and reply, so a
    value that was forged, altered, moved to another key or left over from another database is
    a miss. A Redis that is slow or gone costs one call `timeout_seconds`, and is then left
    alone for `pause_seconds`. Each thread has a connection of its own: nobody waits for one.
    """

    def __init__(
        self,
        url: str,
        *,
        service: str,
        instance: str,
        mac_key: bytes,
        ttl_seconds: int,
        timeout_seconds: float = 0.05,
        pause_seconds: float = 1.0,
    ) -> None:
        # Knows what the URL says, and makes no connection itself.
        self._pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._mine = threading.local()
        self._connections: list[Any] = []
        self._service = service
        self._instance = instance
        self._mac_key = mac_key
        self._ttl_seconds = ttl_seconds
        self._pause_seconds = pause_seconds
        self._resume_at = 0.0
        self._log = structlog.get_logger()

    def recall(self, request: KeyedRequest) -> Reply | None:
        """Return the reply to exactly this request, if Redis has it and its MAC is right."""
        value = self._answer("GET", self._name(request))
        if not isinstance(value, bytes):
            return None
        mac, content = value[:_MAC_BYTES], value[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(request, content)):
            return None
        return Reply(ok=content[:1] == _OK, body=content[1:], replayed_from=REDIS)

    def remember(self, request: KeyedRequest, reply: Reply) -> None:
        """Keep the final reply for the time to live."""
        content = (_OK if reply.ok else _REFUSED) + reply.body
        value = self._mac(request, content) + content
        self._answer("SET", self._name(request), value, "EX", self._ttl_seconds)

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections:
            connection.disconnect()

    def _answer(self, *command: str | bytes | int) -> object:
        """Return what Redis answers; nothing while it is left alone, or if it is in trouble."""
        if time.monotonic() < self._resume_at:
            return None
        try:
            return self._ask(self._connection(), command)
        # The client stumbles in many ways over what is no Redis; none of them is the caller's.
        except Exception as error:  # noqa: BLE001
            self._resume_at = time.monotonic() + self._pause_seconds
            self._log.warning("redis.unavailable", error=type(error).__name__)
            return None

    def _ask(self, connection: Any, command: tuple[str | bytes | int, ...]) -> object:
        was_connected = connection.is_connected
        try:
            connection.send_command(*command)
            return connection.read_response()
        except redis.ConnectionError:
            # Redis may have closed it, or begun anew, since it was last used.
            if not was_connected:
                raise
        connection.send_command(*command)
        return connection.read_response()

    def _connection(self) -> Any:
        connection: Any = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._pool.connection_class(**self._pool.connection_kwargs)
            self._mine.connection = connection
            self._connections.append(connection)
        return connection

    def _name(self, request: KeyedRequest) -> str:
        scope = _joined(self._instance, request.role, request.caller, request.key)
        return f"{self._service}:reply:{hashlib.sha256(scope).hexdigest()}"

    def _mac(self, request: KeyedRequest, content: bytes) -> bytes:
        scope = _joined(self._service, self._instance, request.role, request.caller, request.key)
        return hmac_sha256(self._mac_key, scope + request.fingerprint + content)


def _joined(*parts: str) -> bytes:
    # Each part with its length: ("a", "bc") and ("ab", "c") must not be the same bytes.
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)

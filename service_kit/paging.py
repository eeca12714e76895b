"""Page tokens: opaque, signed, and good only for the question they were made for (AIP-158)."""

import base64
import binascii
import hmac
from typing import Final

from service_kit.errors import InvalidPageToken
from service_kit.mac import hmac_sha256

_MAC_BYTES: Final = 16


class PageTokens:
    """Seals and opens page tokens with one key.

    A token is signed, not encrypted: a position holds nothing that its reader may not see.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, scope: str, position: str) -> str:
        """Write the position as a token for this scope: method, caller and filters."""
        body = position.encode()
        return _encode(self._mac(scope, body) + body)

    def open(self, token: str, scope: str) -> str:
        """Read the position. Raises InvalidPageToken if it was not sealed for this scope."""
        content = _decode(token)
        mac, body = content[:_MAC_BYTES], content[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(scope, body)):
            raise InvalidPageToken
        return body.decode()

    def _mac(self, scope: str, body: bytes) -> bytes:
        # The scope with its length: no byte can move from it into the position.
        scoped = scope.encode()
        content = len(scoped).to_bytes(4, "big") + scoped + body
        return hmac_sha256(self._key, content)[:_MAC_BYTES]


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(token: str) -> bytes:
    try:
        padding = "=" * (-len(token) % 4)
        return base64.b64decode(token + padding, altchars="-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidPageToken from None

"""What makes two requests the same one."""

import hashlib
import json


def fingerprint(method: str, /, **fields: object) -> bytes:
    """Digest the method and its named fields with SHA-256.

    Fields that have their default (nothing, zero, empty) are left out, so that a client which
    knows a newer field and leaves it alone still sends the same request. Not over the
    message's bytes: two encoders may order or default them differently.
    """
    present = {name: value for name, value in fields.items() if value}
    text = json.dumps([method, present], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()

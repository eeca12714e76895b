"""The public keys of whoever issues tokens, pinned in a file: a JSON Web Key Set (RFC 7517)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from service_kit.credentials.files import FileUnusable, read

# NIST SP 800-131A: shorter ones are not to be used any more.
RSA_BITS_MIN: Final = 2048


@dataclass(frozen=True)
class TokenKey:
    """A public key and the one algorithm that it is for."""

    algorithm: str
    key: Ed25519PublicKey | RSAPublicKey


def read_token_keys(path: Path) -> Mapping[str, TokenKey]:
    """Read the keys that can verify a token, by their ids.

    Keys for other algorithms are left out; private and shared ones do not belong there at all.
    Raises FileUnusable.
    """
    keys: dict[str, TokenKey] = {}
    for entry in _entries(path):
        if entry.get("kty") == "oct" or "d" in entry:
            raise FileUnusable(f"{path} holds a key that is secret; it must hold public ones only")
        found = _token_key(path, entry)
        if found is None:
            continue
        kid = entry.get("kid")
        if not isinstance(kid, str) or not kid:
            raise FileUnusable(f"{path} has a key without a kid")
        if kid in keys:
            raise FileUnusable(f"{path} has two keys of the same kid")
        keys[kid] = found
    if not keys:
        raise FileUnusable(f"{path} has no public key for EdDSA (Ed25519) or RS256")
    return MappingProxyType(keys)


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(read(path))
    except (ValueError, RecursionError):
        raise FileUnusable(f"{path} is not JSON") from None
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FileUnusable(f"{path} is no JSON Web Key Set")
    return entries


def _token_key(path: Path, entry: dict[str, Any]) -> TokenKey | None:
    match entry.get("kty"), entry.get("crv"), entry.get("alg"), entry.get("use", "sig"):
        case "OKP", "Ed25519", None | "EdDSA", "sig":
            algorithm = "EdDSA"
        case "RSA", _, None | "RS256", "sig":
            algorithm = "RS256"
        case _:
            return None
    try:
        key = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise FileUnusable(f"{path} has a key for {algorithm} that cannot be read") from None
    if isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS_MIN:
        raise FileUnusable(f"{path} has an RSA key of fewer than {RSA_BITS_MIN} bits")
    return TokenKey(algorithm, key)

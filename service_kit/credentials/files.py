"""Certificates, keys and tokens in files, read and understood before anything listens."""

from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

# What the readers below raise for bytes that are not what they should be.
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm)


class FileUnusable(Exception):
    """A file cannot be read or does not hold what it should. The sentence shows none of it."""


def read(path: Path) -> bytes:
    """Read a file. Raises FileUnusable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileUnusable(f"{path} cannot be read: {error.strerror}") from None


def read_certificates(path: Path) -> bytes:
    """Read one or more certificates. Raises FileUnusable."""
    content = read(path)
    _certificates(path, content)
    return content


def read_private_key(path: Path) -> bytes:
    """Read a private key that no password protects. Raises FileUnusable."""
    content = read(path)
    _public_key_of(path, content)
    return content


def read_token(path: Path) -> str:
    """Read a token, without the line break at its end. Raises FileUnusable."""
    token = read(path).strip()
    if not token.isascii() or not token or len(token.split()) > 1:
        raise FileUnusable(f"{path} holds no token")
    return token.decode()


def belong_together(key_file: Path, certificate_file: Path) -> bool:
    """Say whether the first certificate is the key's. Raises FileUnusable."""
    key = _public_key_of(key_file, read(key_file))
    first, *_ = _certificates(certificate_file, read(certificate_file))
    return _as_bytes(key) == _as_bytes(first.public_key())


def is_over(certificate_file: Path, now: datetime) -> bool:
    """Say whether the first certificate is no longer valid. Raises FileUnusable."""
    first, *_ = _certificates(certificate_file, read(certificate_file))
    return first.not_valid_after_utc <= now


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except _UNREADABLE:
        raise FileUnusable(f"{path} holds no certificate in PEM form") from None


def _public_key_of(path: Path, content: bytes) -> PublicKeyTypes:
    try:
        return load_pem_private_key(content, password=None).public_key()
    except _UNREADABLE:
        raise FileUnusable(
            f"{path} holds no private key in PEM form, or one with a password"
        ) from None


def _as_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

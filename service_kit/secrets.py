"""The one secret of an installation, and the keys that are derived from it."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final, Protocol

from pydantic import SecretStr

SECRET_CHARACTERS_MIN: Final = 32
FILE_NAME: Final = "secret.key"

_HASH: Final = "sha256"
_KEY_BYTES: Final = hashlib.sha256().digest_size


class SecretUnusable(Exception):
    """The secret cannot be read, is too short, or another one. The sentence holds none of it."""


class SecretKey:
    """The secret of an installation. Never used itself: each purpose has a key of its own."""

    def __init__(self, secret: bytes) -> None:
        # RFC 5869, section 2.2: extract, with the salt left out.
        self._pseudorandom_key = hmac.digest(bytes(_KEY_BYTES), secret, _HASH)

    def derive(self, purpose: str) -> bytes:
        """Make the 32-byte key for a purpose, the same in every process with this secret."""
        # RFC 5869, section 2.3: expand, whose first block is as long as the key.
        return hmac.digest(self._pseudorandom_key, purpose.encode() + b"\x01", _HASH)

    def __repr__(self) -> str:
        """Tell nothing."""
        return "SecretKey(…)"


class SecretSettings(Protocol):
    """Where the secret may be."""

    @property
    def secret_key(self) -> SecretStr | None:
        """The secret itself."""

    @property
    def secret_key_file(self) -> Path | None:
        """A file that holds it."""

    @property
    def data_dir(self) -> Path:
        """The folder in which one is made if neither is set."""


def load_secret(settings: SecretSettings, *, make: bool = True) -> SecretKey:
    """Take the secret from the settings, or make one in the data folder and keep it there.

    Raises SecretUnusable; also if there is none and none is to be made.
    """
    if settings.secret_key is not None:
        return SecretKey(checked(settings.secret_key.get_secret_value()))
    if settings.secret_key_file is not None:
        return SecretKey(read_secret_file(settings.secret_key_file))
    path = settings.data_dir / FILE_NAME
    if make and not path.exists():
        try:
            private_folder(settings.data_dir)
            _make_secret_file(path)
        except OSError as error:
            raise SecretUnusable(f"{path} cannot be made: {error.strerror}") from None
    return SecretKey(read_secret_file(path))


def read_secret_file(path: Path) -> bytes:
    """Read a secret, without the line break at its end. Raises SecretUnusable."""
    try:
        return checked(path.read_text("utf-8"))
    except OSError as error:
        raise SecretUnusable(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretUnusable(f"{path} is not text") from None


def checked(secret: str) -> bytes:
    """Return the secret's bytes. Raises SecretUnusable if it is too short."""
    secret = secret.strip()
    if len(secret) < SECRET_CHARACTERS_MIN:
        raise SecretUnusable(f"the secret is shorter than {SECRET_CHARACTERS_MIN} characters")
    return secret.encode()


def private_folder(path: Path) -> Path:
    """Make the folder for its owner alone if it is missing; leave an existing one as it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _make_secret_file(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole or not at all, and never replaces: of two processes that start
        # at once, one makes the secret and both read it.
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()

"""How the order service proves to the payment service who it is. Its name stays the same."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import grpc
import structlog

from service_kit.credentials.files import (
    FileUnusable,
    read_certificates,
    read_private_key,
    read_token,
)

# Claimed where a claim is enough: on loopback, to a payment service without credentials.
CLAIMED: Final = (("x-actor-id", "order-service"), ("x-actor-role", "order_service"))

Metadata = Sequence[tuple[str, str]]


class PaymentCredentials(Protocol):
    """The settings that say how."""

    @property
    def payment_ca_file(self) -> Path | None:
        """Whoever signed the payment service's certificate."""

    @property
    def payment_cert_file(self) -> Path | None:
        """The certificate shown to it."""

    @property
    def payment_key_file(self) -> Path | None:
        """The certificate's key."""

    @property
    def payment_token_file(self) -> Path | None:
        """The token sent to it."""


def channel_credentials(settings: PaymentCredentials) -> grpc.ChannelCredentials | None:
    """Return what the channel is opened with; None for plaintext. Raises FileUnusable."""
    if settings.payment_ca_file is None:
        return None
    key = certificate = None
    if settings.payment_key_file and settings.payment_cert_file:
        key = read_private_key(settings.payment_key_file)
        certificate = read_certificates(settings.payment_cert_file)
    authority = read_certificates(settings.payment_ca_file)
    return grpc.ssl_channel_credentials(authority, key, certificate)


def identification(settings: PaymentCredentials) -> Callable[[], Metadata]:
    """Return what makes the metadata that says who calls, for each call anew.

    Raises FileUnusable.
    """
    if settings.payment_token_file is not None:
        return TokenFile(settings.payment_token_file).metadata
    if settings.payment_cert_file is not None:
        return tuple
    return lambda: CLAIMED


class TokenFile:
    """A token in a file, which whoever renews it replaces: each call gets what is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._metadata: Metadata = ()
        self._seen: tuple[int, ...] = ()
        self._log = structlog.get_logger()
        self._read()

    def metadata(self) -> Metadata:
        """Return the token that is in the file now, or the last that could be read."""
        try:
            self._read()
        except FileUnusable as error:
            self._log.warning("token_file.unusable", problem=str(error))
        return self._metadata

    def _read(self) -> None:
        try:
            found = self._path.stat()
        except OSError as error:
            raise FileUnusable(f"{self._path} cannot be read: {error.strerror}") from None
        # A file that replaces another has a number of its own.
        state = (found.st_mtime_ns, found.st_size, found.st_ino)
        if state != self._seen:
            self._metadata = (("authorization", f"Bearer {read_token(self._path)}"),)
            self._seen = state

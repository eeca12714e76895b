"""How both services are reached: in plaintext by name, or over mTLS with tokens."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, Protocol

import grpc

from deploy import credentials
from deploy.client import Caller, Metadata

# A service that is still starting refuses connections: ask again at once, not after the second
# that grpc waits by default. Loopback is never reached through a proxy.
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.enable_http_proxy", 0),
)


class Connections(Protocol):
    """Connects, and says who calls."""

    @property
    def variables(self) -> Mapping[str, str]:
        """The settings with which both services expect to be reached so."""

    def channel(self, address: str) -> grpc.Channel:
        """Open a channel."""

    def metadata(self, caller: Caller) -> Metadata:
        """Return what a call brings that says who makes it."""


class Plain:
    """Plaintext: the services take the callers' word for it."""

    variables: Mapping[str, str] = {}

    def channel(self, address: str) -> grpc.Channel:
        """Open a channel."""
        # nosemgrep: plaintext-channel - to a process of this machine
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)

    def metadata(self, caller: Caller) -> Metadata:
        """Return the caller's name and role."""
        return caller.metadata


class Secured:
    """mTLS with the certificate of the edge, through which every caller brings a token."""

    def __init__(self, folder: Path) -> None:
        """Use the credentials that are in the folder."""
        self.variables: Mapping[str, str] = credentials.variables(folder)
        self._folder = folder
        self._token = cache(self._new_token)

    def channel(self, address: str) -> grpc.Channel:
        """Open a channel."""
        shown = grpc.ssl_channel_credentials(
            *((self._folder / name).read_bytes() for name in credentials.EDGE_FILES)
        )
        return grpc.secure_channel(address, shown, options=CHANNEL_OPTIONS)

    def metadata(self, caller: Caller) -> Metadata:
        """Return the caller's token; nothing for nobody."""
        if not caller.id:
            return ()
        return (("authorization", f"Bearer {self._token(caller)}"),)

    def _new_token(self, caller: Caller) -> str:
        return credentials.token(self._folder, caller.role, caller.id)

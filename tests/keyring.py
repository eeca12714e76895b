"""Certificates and tokens for the callers of the tests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc

from deploy import credentials
from deploy.authority import Authority, Identity, TokenIssuer
from tests.client import ORDER_SERVICE, SHOP, Caller

EDGE: Final = "edge"
# TLS without a certificate of the client's.
NONE: Final = "none"
# Who has a certificate of their own; everybody else brings a token through the edge.
_CERTIFICATES: Final = {SHOP.id: "shop-backend", ORDER_SERVICE.id: "order-service"}
_CONNECTED_SOON: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Each caller's connection is its own, whatever gRPC would share.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class Proven(Caller):
    """A caller with credentials: the certificate of its connection, and perhaps a token.

    Without a certificate it connects in plaintext.
    """

    token: str = ""
    certificate: str = EDGE

    def metadata(self) -> list[tuple[str, str | bytes]]:
        """Return the token and nothing about the caller besides, unless a test adds it."""
        bearer = [("authorization", f"Bearer {self.token}")] if self.token else []
        return [*bearer, *self.extra]

    def bearing(self, token: str) -> "Proven":
        """Return the caller with another token."""
        return replace(self, token=token)


class Keyring:
    """What `make certs` makes, and more: identities of other authorities, tokens gone wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = credentials.make(folder)
        self.issuer = TokenIssuer((folder / credentials.SIGNING_KEY).read_bytes())
        self._identities: dict[str, Identity] = {}
        for name in credentials.CLIENTS:
            self.add(name, Identity(self._read(f"{name}.pem"), self._read(f"{name}.key")))
        uris = ["spiffe://checkout.example/edge"]
        self.add("expired", self.authority.issue("edge", uris=uris, ends_in=timedelta(minutes=-1)))
        self.add(
            "stranger",
            Authority().issue("edge", uris=uris),
        )

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def add(self, name: str, identity: Identity) -> None:
        """Keep a certificate under a name."""
        self._identities[name] = identity

    def settings(self) -> dict[str, Any]:
        """Return the settings of both services, as `running_checkout` takes them."""
        found = credentials.variables(self.folder)
        return {name.lower().replace("_service_", "_", 1): value for name, value in found.items()}

    def proven(self, caller: Caller) -> Proven:
        """Return the caller with the credentials they have."""
        if isinstance(caller, Proven):
            return caller
        certificate = _CERTIFICATES.get(caller.id, "")
        token = "" if certificate else self.issuer.token(caller.role, caller.id)
        return Proven(caller.role, caller.id, caller.extra, token, certificate or EDGE)

    def by_token(self, caller: Caller) -> Proven:
        """Return the caller with a token, through the edge, whoever they are."""
        token = self.issuer.token(caller.role, caller.id)
        return Proven(caller.role, caller.id, caller.extra, token)

    def channel(self, address: str, certificate: str) -> grpc.Channel:
        """Connect with a certificate, or over TLS with none; without either, in plaintext."""
        if not certificate:
            return grpc.insecure_channel(address, options=_CONNECTED_SOON)
        if certificate == NONE:
            shown = grpc.ssl_channel_credentials(self.authority.certificate)
            return grpc.secure_channel(address, shown, options=_CONNECTED_SOON)
        identity = self._identities[certificate]
        shown = grpc.ssl_channel_credentials(
            self.authority.certificate, identity.key, identity.certificate
        )
        return grpc.secure_channel(address, shown, options=_CONNECTED_SOON)


def ago(**time: float) -> Mapping[str, Any]:
    """Return the claims of a token that was good until so long ago."""
    return {"exp": datetime.now(UTC) - timedelta(**time)}

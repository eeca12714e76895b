"""The credentials that the settings ask for, and what the settings leave open."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import grpc

from service_kit.clock import Clock, SystemClock
from service_kit.credentials.callers import Callers, ClaimedCallers, ProvenCallers
from service_kit.credentials.clients import parse_clients
from service_kit.credentials.files import (
    belong_together,
    is_over,
    read_certificates,
    read_private_key,
)
from service_kit.credentials.token_keys import read_token_keys
from service_kit.credentials.tokens import TokenVerifier
from service_kit.principals import roles_in


class CredentialSettings(Protocol):
    """What a service shows of itself, and by what it knows its callers."""

    @property
    def tls_cert_file(self) -> Path | None:
        """The service's own certificate, and those up to its CA."""

    @property
    def tls_key_file(self) -> Path | None:
        """The certificate's key."""

    @property
    def tls_client_ca_file(self) -> Path | None:
        """Whoever signed the certificates of clients."""

    @property
    def tls_clients(self) -> str:
        """Which of them may connect, and whom each stands for."""

    @property
    def token_keys_file(self) -> Path | None:
        """The keys that verify tokens."""

    @property
    def token_issuer(self) -> str:
        """Who issues tokens."""

    @property
    def token_audience(self) -> str:
        """Whom tokens must be issued for."""

    @property
    def token_roles(self) -> str:
        """The roles that tokens can give, separated by commas."""

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the name of a field's variable."""


def knows_callers(settings: CredentialSettings) -> bool:
    """Say whether callers have to prove who they are."""
    return settings.tls_client_ca_file is not None or settings.token_keys_file is not None


def callers(settings: CredentialSettings, clock: Clock) -> Callers:
    """Return what says who calls. Raises FileUnusable."""
    if not knows_callers(settings):
        return ClaimedCallers()
    tokens = None
    if settings.token_keys_file is not None:
        tokens = TokenVerifier(
            read_token_keys(settings.token_keys_file),
            issuer=settings.token_issuer,
            audience=settings.token_audience,
            roles=frozenset(roles_in(settings.token_roles)),
            clock=clock,
        )
    clients = parse_clients(settings.tls_clients) if settings.tls_client_ca_file else None
    return ProvenCallers(tokens=tokens, clients=clients)


def server_credentials(settings: CredentialSettings) -> grpc.ServerCredentials | None:
    """Return what the port is opened with; None for plaintext. Raises FileUnusable."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    own = (read_private_key(settings.tls_key_file), read_certificates(settings.tls_cert_file))
    if settings.tls_client_ca_file is None:
        # nosemgrep: unverified-peer - who calls is known by a token then, and by nothing else
        return grpc.ssl_server_credentials([own])
    authority = read_certificates(settings.tls_client_ca_file)
    return grpc.ssl_server_credentials([own], authority, require_client_auth=True)


def contradictions(settings: CredentialSettings) -> Iterator[str]:
    """List what does not go together, one sentence each. Each by itself is right by then."""
    name = settings.variable
    yield from key_mistakes(
        cert_file=settings.tls_cert_file,
        key_file=settings.tls_key_file,
        cert=name("tls_cert_file"),
        key=name("tls_key_file"),
    )
    shows_itself = settings.tls_cert_file is not None or settings.tls_key_file is not None
    if shows_itself and not knows_callers(settings):
        yield (
            f"{name('tls_cert_file')}: says who serves, but nothing says who calls; also set"
            f" {name('token_keys_file')} (tokens) or {name('tls_client_ca_file')} (certificates)"
        )
    if settings.tls_client_ca_file and not shows_itself:
        yield (
            f"{name('tls_client_ca_file')}: clients show certificates only where the service does;"
            f" also set {name('tls_cert_file')} and {name('tls_key_file')}"
        )
    if bool(settings.tls_client_ca_file) != bool(settings.tls_clients):
        yield (
            f"{name('tls_client_ca_file')} and {name('tls_clients')}: only one is set; the first"
            " says who signs the certificates of clients, the second which of them may connect"
        )
    if bool(settings.token_keys_file) != bool(settings.token_issuer):
        yield (
            f"{name('token_keys_file')} and {name('token_issuer')}: only one is set; a token must"
            " be signed by one of the keys and name the issuer"
        )
    some_bring_tokens = parse_clients(settings.tls_clients).some_bring_tokens
    if settings.token_keys_file is None and some_bring_tokens:
        yield (
            f"{name('tls_clients')}: has clients that bring tokens, but none are taken; also set"
            f" {name('token_keys_file')}"
        )


def key_mistakes(
    *, cert_file: Path | None, key_file: Path | None, cert: str, key: str
) -> Iterator[str]:
    """List what is wrong with a certificate and its key together."""
    if (cert_file is None) != (key_file is None):
        yield f"{cert} and {key}: only one is set; a certificate is of no use without its key"
    elif cert_file and key_file and not belong_together(key_file, cert_file):
        yield f"{cert} and {key}: the key is not the certificate's"
    elif cert_file and is_over(cert_file, SystemClock().now()):
        yield f"{cert}: the certificate is no longer valid"

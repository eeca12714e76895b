"""Who calls: the one principal of a call, proven, or claimed where a claim is enough."""

from collections.abc import Mapping
from typing import Final, Protocol

import grpc
import structlog

from service_kit.call import Principal, current
from service_kit.credentials.clients import Clients
from service_kit.credentials.tokens import TokenRefused, TokenVerifier
from service_kit.errors import CredentialsMissing
from service_kit.interceptors.identity import principal_of

AUTHORIZATION: Final = "authorization"

# The URIs in the certificate that the connection was made with. Names of other kinds that read
# like one are elsewhere.
_PEER_URI: Final = "peer_uri"
_BEARER: Final = "bearer "
# For all that may be wrong with it: whoever tries tokens learns nothing from the answer.
_WHAT_COUNTS: Final = "must be Bearer and a token that is valid for this service"


class Callers(Protocol):
    """Tells who calls."""

    def principal(self, context: grpc.ServicerContext, metadata: Mapping[str, str]) -> Principal:
        """Return the caller. Raises CredentialsMissing."""

    def claimed(self, metadata: Mapping[str, str]) -> Principal | None:
        """Return whom the metadata names, if that is worth anything. It costs next to nothing."""


class ClaimedCallers:
    """Believes the metadata. For a service that only its own machine can reach."""

    def principal(self, context: grpc.ServicerContext, metadata: Mapping[str, str]) -> Principal:
        """Return whom the metadata names. Raises CredentialsMissing."""
        return principal_of(metadata)

    def claimed(self, metadata: Mapping[str, str]) -> Principal | None:
        """Return whom the metadata names; nobody if it cannot be right."""
        try:
            return principal_of(metadata)
        except CredentialsMissing:
            return None


class ProvenCallers:
    """Believes certificates and tokens, and nothing else that a call says of its caller.

    With `clients`, every connection has a certificate that was verified; it must be one of
    theirs, whatever else the call brings. A token, where there is one, says who calls; without
    one the certificate does.
    """

    def __init__(self, *, tokens: TokenVerifier | None, clients: Clients | None) -> None:
        self._tokens = tokens
        self._clients = clients
        self._log = structlog.get_logger()

    def principal(self, context: grpc.ServicerContext, metadata: Mapping[str, str]) -> Principal:
        """Return the caller; one with no role if the certificate is nobody's.

        Raises CredentialsMissing.
        """
        certified: Principal | None = None
        if self._clients is not None:
            uris = [uri.decode("utf-8", "replace") for uri in _uris(context)]
            listed = self._clients.listed(uris)
            if listed is None:
                # May call nothing, as a role that no RPC admits.
                return Principal(role="", id=",".join(uris))
            current().peer = listed
            certified = self._clients.principal(listed)
        if AUTHORIZATION in metadata:
            return self._bearer(_only(context, AUTHORIZATION))
        if certified is None:
            raise self._missing("is missing")
        return certified

    def claimed(self, metadata: Mapping[str, str]) -> Principal | None:
        """Return nobody: finding out who it is costs more than refusing the call."""
        return None

    def _bearer(self, value: str) -> Principal:
        if self._tokens is None:
            raise self._missing("brought where none is taken")
        # RFC 9110, section 11.1: the scheme is compared without case.
        if value[: len(_BEARER)].lower() != _BEARER:
            raise self._missing("is no single bearer token")
        try:
            return self._tokens.verify(value[len(_BEARER) :].strip())
        except TokenRefused as refused:
            raise self._missing(str(refused)) from None

    def _missing(self, problem: str) -> CredentialsMissing:
        call = current()
        self._log.info(
            "token.refused", problem=problem, peer=call.peer, trace_id=call.trace.trace_id
        )
        return CredentialsMissing(header=AUTHORIZATION, problem=_WHAT_COUNTS)


def _uris(context: grpc.ServicerContext) -> list[bytes]:
    found = context.auth_context().get(_PEER_URI, ())
    return [found] if isinstance(found, bytes) else list(found)


def _only(context: grpc.ServicerContext, header: str) -> str:
    """Return the header's value; nothing if it is there twice, or is not text."""
    values = [value for key, value in context.invocation_metadata() if key == header]
    only = values[0] if len(values) == 1 else ""
    return only if isinstance(only, str) else ""

"""Who may connect with a certificate: an allow-list of the URIs in them (RFC 5280, 4.2.1.6)."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from service_kit.call import Principal
from service_kit.principals import id_problem, pair_problem, role_problem

ACCEPTS: Final = "URI=ROLE:ID or URI=token, separated by commas"
# Stands for an id of its own: whoever has the certificate may connect, each call brings a token.
EACH_CALL_PROVES: Final = "token"


class ClientsUnusable(Exception):
    """An allow-list cannot be read."""


class Clients:
    """Knows certificates by their URIs."""

    def __init__(self, principals: Mapping[str, Principal | None]) -> None:
        self._principals = principals

    @property
    def some_bring_tokens(self) -> bool:
        """Say whether a certificate on the list stands for nobody by itself."""
        return None in self._principals.values()

    def listed(self, uris: Sequence[str]) -> str | None:
        """Return the one URI that is on the list; None if none is, or more than one."""
        found = {uri for uri in uris if uri in self._principals}
        return found.pop() if len(found) == 1 else None

    def principal(self, uri: str) -> Principal | None:
        """Return whom a listed URI stands for; None if its calls bring tokens."""
        return self._principals[uri]


def parse_clients(text: str) -> Clients:
    """Read an allow-list. Raises ClientsUnusable."""
    principals: dict[str, Principal | None] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        uri, _, who = entry.partition("=")
        if "://" not in uri or not who:
            raise ClientsUnusable(f"{entry} is not URI=ROLE:ID")
        if uri in principals:
            raise ClientsUnusable(f"{uri} is listed twice")
        principals[uri] = None if who == EACH_CALL_PROVES else _principal(uri, who)
    return Clients(MappingProxyType(principals))


def _principal(uri: str, who: str) -> Principal:
    role, _, actor = who.partition(":")
    if problem := role_problem(role):
        raise ClientsUnusable(f"the role of {uri} {problem}")
    if problem := id_problem(actor) or pair_problem(role, actor):
        raise ClientsUnusable(f"the id of {uri} {problem}")
    return Principal(role=role, id=actor)

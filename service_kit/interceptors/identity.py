"""Who calls, as the metadata claims: believed only by a service that listens on loopback.

`x-actor-id` is the caller, `x-actor-role` the one role it has. `x-on-behalf-of` is the person a
backend acts for, which goes into the audit trail and decides nothing; it counts however the
backend itself is known.
"""

from collections.abc import Mapping
from typing import Final

from service_kit.call import CUSTOMER, Principal
from service_kit.errors import CredentialsMissing
from service_kit.principals import id_problem, pair_problem, role_problem

ACTOR_ID: Final = "x-actor-id"
ACTOR_ROLE: Final = "x-actor-role"
ON_BEHALF_OF: Final = "x-on-behalf-of"


def principal_of(metadata: Mapping[str, str]) -> Principal:
    """Read the caller. Raises CredentialsMissing if there is none or it cannot be right."""
    actor = _identifier(metadata, ACTOR_ID)
    role = metadata.get(ACTOR_ROLE, "")
    if problem := role_problem(role):
        raise CredentialsMissing(header=ACTOR_ROLE, problem=problem)
    if problem := pair_problem(role, actor):
        raise CredentialsMissing(header=ACTOR_ID, problem=problem)
    return Principal(role=role, id=actor)


def on_behalf_of(metadata: Mapping[str, str], principal: Principal) -> str:
    """Read the person acted for; empty if the caller names nobody or acts for themselves."""
    if principal.role == CUSTOMER or ON_BEHALF_OF not in metadata:
        return ""
    return _identifier(metadata, ON_BEHALF_OF)


def _identifier(metadata: Mapping[str, str], header: str) -> str:
    value = metadata.get(header, "")
    if problem := id_problem(value):
        raise CredentialsMissing(header=header, problem=problem)
    return value

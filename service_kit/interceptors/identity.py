"""Who calls: read from the metadata, believed only by a service that listens on loopback.

`x-actor-id` is the caller, `x-actor-role` the one role it has, `x-on-behalf-of` the person a
backend acts for, which goes into the audit trail and decides nothing.
"""

import re
from collections.abc import Mapping
from typing import Final

from service_kit import card_data
from service_kit.call import CUSTOMER, Principal
from service_kit.contract.method_contracts import INSTALLED_NAMES
from service_kit.errors import CredentialsMissing

ACTOR_ID: Final = "x-actor-id"
ACTOR_ROLE: Final = "x-actor-role"
ON_BEHALF_OF: Final = "x-on-behalf-of"

# The contract's roles, in its order.
ROLES: Final = tuple(role for role in INSTALLED_NAMES.roles.values() if role)
# A role that is named after a service belongs to that service, whose only id is its name.
PEER_IDS: Final = {role: role.replace("_", "-") for role in ROLES if role.endswith("_service")}

ID_CHARACTERS: Final = "1 to 256 visible ASCII characters"
_ID: Final = re.compile(r"[\x21-\x7e]{1,256}")


def principal_of(metadata: Mapping[str, str]) -> Principal:
    """Read the caller. Raises CredentialsMissing if there is none or it cannot be right."""
    actor = _identifier(metadata, ACTOR_ID)
    role = metadata.get(ACTOR_ROLE, "")
    if role not in ROLES:
        raise CredentialsMissing(header=ACTOR_ROLE, problem=f"must be one of {', '.join(ROLES)}")
    if PEER_IDS.get(role, "") != (actor if actor in PEER_IDS.values() else ""):
        reserved = ", ".join(f"{peer} for the role {role}" for role, peer in PEER_IDS.items())
        raise CredentialsMissing(header=ACTOR_ID, problem=f"is reserved: {reserved}")
    return Principal(role=role, id=actor)


def on_behalf_of(metadata: Mapping[str, str], principal: Principal) -> str:
    """Read the person acted for; empty if the caller names nobody or acts for themselves."""
    if principal.role == CUSTOMER or ON_BEHALF_OF not in metadata:
        return ""
    return _identifier(metadata, ON_BEHALF_OF)


def _identifier(metadata: Mapping[str, str], header: str) -> str:
    value = metadata.get(header, "")
    if not _ID.fullmatch(value) or card_data.find_in_text(value):
        raise CredentialsMissing(
            header=header,
            problem=f"must be {ID_CHARACTERS} and no card number",
        )
    return value

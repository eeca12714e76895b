"""What a principal may be: one of the contract's roles, and an id that can be read."""

import re
from typing import Final

from service_kit import card_data
from service_kit.contract.method_contracts import INSTALLED_NAMES

# The contract's roles, in its order.
ROLES: Final = tuple(role for role in INSTALLED_NAMES.roles.values() if role)
# A role that is named after a service belongs to that service, whose only id is its name.
PEER_IDS: Final = {role: role.replace("_", "-") for role in ROLES if role.endswith("_service")}

ID_CHARACTERS: Final = "1 to 256 visible ASCII characters"
_ID: Final = re.compile(r"[\x21-\x7e]{1,256}")


def role_problem(role: object) -> str:
    """Say what is wrong with a role; nothing if it is one of the contract's."""
    return "" if role in ROLES else f"must be one of {', '.join(ROLES)}"


def roles_in(text: str) -> list[str]:
    """Read the roles of a list that is separated by commas."""
    return [role.strip() for role in text.split(",")]


def id_problem(actor: object) -> str:
    """Say what is wrong with an id, without showing it; nothing if it can be read."""
    if isinstance(actor, str) and _ID.fullmatch(actor) and not card_data.find_in_text(actor):
        return ""
    return f"must be {ID_CHARACTERS} and no card number"


def pair_problem(role: str, actor: str) -> str:
    """Say what is wrong with a readable id in a known role: a peer's go together."""
    if PEER_IDS.get(role, "") == (actor if actor in PEER_IDS.values() else ""):
        return ""
    reserved = ", ".join(f"{peer} for the role {role}" for role, peer in PEER_IDS.items())
    return f"is reserved: {reserved}"

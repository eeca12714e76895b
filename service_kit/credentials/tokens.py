"""Signed tokens: JSON Web Tokens (RFC 7519) that say who calls, checked as RFC 8725 advises."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, NoReturn

import jwt

from service_kit.call import Principal
from service_kit.clock import Clock
from service_kit.credentials.token_keys import TokenKey
from service_kit.principals import ROLES, id_problem, pair_problem, role_problem

# Clocks of different machines differ.
LEEWAY_SECONDS: Final = 30
# More than any honest token has; less than what gRPC lets metadata be.
CHARACTERS_MAX: Final = 8 * 1024
ROLE_CLAIM: Final = "role"
_TOKENS_KEPT: Final = 1024
# The year 10000.
_TIME_MAX: Final = 253_402_300_800

# Times are compared here, by the clock that was passed in.
_OPTIONS: Final[Any] = {
    "require": ["iss", "aud", "sub", "exp"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


class TokenRefused(Exception):
    """A token proves nothing. The sentence is for the log and shows none of it."""


class _Verified(NamedTuple):
    principal: Principal
    begins: float
    ends: float


class TokenVerifier:
    """Verifies tokens by pinned keys.

    The key says which algorithm it is for; the token's own word for it is only compared. `kid`
    is looked up and used for nothing else. A token that was verified before is only asked
    whether it is in time: the keys stay the same, and a signature costs more than many a call.
    """

    def __init__(
        self,
        keys: Mapping[str, TokenKey],
        *,
        issuer: str,
        audience: str,
        roles: frozenset[str] = frozenset(ROLES),
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._roles = roles
        self._clock = clock
        # Of one that is refused nothing is kept.
        self._verified = lru_cache(_TOKENS_KEPT)(self._verify)

    def verify(self, token: str) -> Principal:
        """Return the principal that the token names: `sub` in its `role`. Raises TokenRefused."""
        if len(token) > CHARACTERS_MAX:
            _refuse("is too long")
        found = self._verified(token)
        now = self._clock.now().timestamp()
        if not now < found.ends + LEEWAY_SECONDS:
            _refuse("is expired")
        if not now >= found.begins - LEEWAY_SECONDS:
            _refuse("is not valid yet")
        return found.principal

    def _verify(self, token: str) -> _Verified:
        try:
            claims = self._claims(token)
        except (jwt.PyJWTError, RecursionError, ValueError) as error:
            raise TokenRefused(type(error).__name__) from None
        begins = _time(claims, "nbf") if "nbf" in claims else -math.inf
        principal = _principal(claims)
        if principal.role not in self._roles:
            _refuse(f"has a {ROLE_CLAIM} that no token gives here")
        return _Verified(principal, begins, _time(claims, "exp"))

    def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            _refuse("has no kid that is known")
        return jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            issuer=self._issuer,
            audience=self._audience,
            options=_OPTIONS,
        )


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Not so of NaN either, which is neither before nor after anything.
    if not (is_number and abs(value) < _TIME_MAX):
        _refuse(f"has no time in {name}")
    return float(value)


def _principal(claims: Mapping[str, Any]) -> Principal:
    role, actor = claims.get(ROLE_CLAIM), claims["sub"]
    # A list of roles, say, is no role either.
    if not isinstance(role, str) or role_problem(role):
        _refuse(f"has no known {ROLE_CLAIM}")
    if id_problem(actor) or pair_problem(role, actor):
        _refuse("has a sub that cannot be right")
    return Principal(role=role, id=actor)


def _refuse(problem: str) -> NoReturn:
    raise TokenRefused(problem)

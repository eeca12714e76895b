"""How much one caller may ask for: so many calls a second, and so many at a time."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

from service_kit.call import CUSTOMER, Principal
from service_kit.errors import RateLimited
from service_kit.principals import PEER_IDS, ROLES
from service_kit.settings import ServiceSettings

# Whoever has not called for longest is forgotten, and begins anew with all that is allowed.
CALLERS_MAX: Final = 10_000

_RETRY_SECONDS_MIN: Final = 0.1


@dataclass(frozen=True)
class Allowance:
    """What each caller of a role may ask for; 0 means as much as they like.

    A caller that was quiet for long enough may make `burst` calls at once, and goes on at
    `per_second`.
    """

    per_second: float = 0
    burst: int = 1
    at_a_time: int = 0


@dataclass
class _Account:
    calls_left: float
    updated_at: float
    under_way: int = 0


class Allowances:
    """Keeps an account of each caller, in memory, for this process alone.

    Roles without an allowance are not counted.
    """

    def __init__(
        self,
        of_role: Mapping[str, Allowance],
        *,
        callers_max: int = CALLERS_MAX,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._of_role = {r: a for r, a in of_role.items() if a.per_second or a.at_a_time}
        self._callers_max = callers_max
        self._now = now
        self._accounts: OrderedDict[Principal, _Account] = OrderedDict()
        self._changing = threading.Lock()

    def spent(self, caller: Principal) -> AbstractContextManager[None]:
        """Take a call from the caller's account for the block. Raises RateLimited."""
        allowance = self._of_role.get(caller.role)
        return nullcontext() if allowance is None else self._spent(caller, allowance)

    @contextmanager
    def _spent(self, caller: Principal, allowance: Allowance) -> Iterator[None]:
        with self._changing:
            account = self._account(caller, allowance)
            _take(account, allowance)
        try:
            yield
        finally:
            with self._changing:
                account.under_way -= 1

    def _account(self, caller: Principal, allowance: Allowance) -> _Account:
        now = self._now()
        account = self._accounts.get(caller)
        if account is None:
            account = self._accounts[caller] = _Account(allowance.burst, now)
            self._forget_somebody()
        else:
            self._accounts.move_to_end(caller)
            earned = (now - account.updated_at) * allowance.per_second
            account.calls_left = min(allowance.burst, account.calls_left + earned)
            account.updated_at = now
        return account

    def _forget_somebody(self) -> None:
        if len(self._accounts) > self._callers_max:
            # Whoever has a call under way is not quiet, and there are few of them.
            quiet = (c for c, account in self._accounts.items() if not account.under_way)
            del self._accounts[next(quiet)]


def _take(account: _Account, allowance: Allowance) -> None:
    if allowance.at_a_time and account.under_way >= allowance.at_a_time:
        raise RateLimited("the caller has as many calls under way as one may have")
    if allowance.per_second:
        if account.calls_left < 1:
            raise RateLimited(
                "the caller makes more calls a second than one may make",
                retry_seconds=max(
                    (1 - account.calls_left) / allowance.per_second, _RETRY_SECONDS_MIN
                ),
            )
        account.calls_left -= 1
    account.under_way += 1


def allowances(settings: ServiceSettings) -> Allowances:
    """Return what the settings allow. Another service is not counted: its callers have been."""
    backend = Allowance(per_second=settings.backend_rate, burst=settings.backend_burst)
    customer = Allowance(
        per_second=settings.customer_rate,
        burst=settings.customer_burst,
        at_a_time=settings.customer_calls,
    )
    return Allowances(
        {role: backend for role in ROLES if role not in PEER_IDS} | {CUSTOMER: customer}
    )

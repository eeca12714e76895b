"""Both services in this process as `tests.checkout` runs them, over mTLS and with tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from service_kit.principals import ROLES
from tests.checkout import Checkout, running_checkout
from tests.client import ALICE, ORDER_SERVICE_NAME, PAYMENT_SERVICE_NAME, Caller, Client
from tests.keyring import Keyring


class SecureCheckout(Checkout):
    """A checkout whose callers prove who they are. They are named as without credentials."""

    keyring: Keyring

    def orders(self, caller: Caller = ALICE) -> Client:
        """Return a client of the order service."""
        return self._client(self.order_server.address, ORDER_SERVICE_NAME, caller)

    def payments(self, caller: Caller = ALICE) -> Client:
        """Return a client of the payment service."""
        return self._client(self.payment_server.address, PAYMENT_SERVICE_NAME, caller)

    def stop(self) -> None:
        """Stop both services, and look inside no more."""
        for channel in self._opened.values():
            channel.close()
        super().stop()

    def _client(self, address: str, service: str, caller: Caller) -> Client:
        proven = self.keyring.proven(caller)
        where = (address, proven.certificate)
        if where not in self._opened:
            self._opened[where] = self.keyring.channel(*where)
        return Client(self._opened[where], service, proven)

    def __init__(self, **given: Any) -> None:
        self._opened: dict[tuple[str, str], grpc.Channel] = {}
        super().__init__(**given)


@contextmanager
def running_secure_checkout(
    folder: Path, keyring: Keyring | None = None, **settings: Any
) -> Iterator[SecureCheckout]:
    """Run both services with the credentials of a keyring; else as `running_checkout`."""
    keyring = keyring or Keyring(folder / "credentials")
    # The order service is asked for by token too.
    settings = {"payment_token_roles": ",".join(ROLES), **keyring.settings(), **settings}
    with running_checkout(folder, kind=SecureCheckout, **settings) as checkout:
        assert isinstance(checkout, SecureCheckout)
        checkout.keyring = keyring
        yield checkout

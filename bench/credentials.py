"""make bench-credentials: what a call costs with credentials, beside one without.

Both services run as real processes for each way of calling them, and are called in turn, so many
calls in each round, one after the other; once more in plaintext, to see by how much two of a kind
differ. Every answer is checked. The figures are the medians
of the rounds: seconds that the caller waits, and processor seconds of the order service, which is
asked to read an order: the cheapest call there is, so that what is added is seen best. A token is
verified once and only looked at again after that; what the first time costs is measured apart.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from bench.happy_path import processor_seconds
from checkout.money.v1.money_pb2 import Money
from checkout.order.v1 import order_service_pb2, order_service_pb2_grpc
from deploy import credentials
from deploy.authority import AUDIENCES, ISSUER, TokenIssuer
from deploy.client import Caller
from deploy.connections import CHANNEL_OPTIONS
from deploy.processes import Pair
from service_kit.clock import SystemClock
from service_kit.credentials.token_keys import TokenKey
from service_kit.credentials.tokens import TokenVerifier
from service_kit.ids import new_id

ALICE: Final = Caller("customer", "alice")
_VERIFICATIONS: Final = 2000

Metadata = tuple[tuple[str, str], ...]


class Way:
    """A way to be known to an order service: a connection, and what each call brings."""

    def __init__(self, name: str, pid: int, channel: grpc.Channel, metadata: Metadata) -> None:
        self.name = name
        self.rounds: list[tuple[float, float]] = []
        self._pid = pid
        self._orders = order_service_pb2_grpc.OrderServiceStub(channel)
        self._metadata = metadata
        self._order_id = self._place()

    def measure(self, calls: int) -> None:
        """Read an order so many times, and note what one time cost."""
        request = order_service_pb2.GetOrderRequest(order_id=self._order_id)
        processor, clock = processor_seconds(self._pid), time.perf_counter()
        for _ in range(calls):
            read = self._orders.GetOrder(request, metadata=self._metadata, timeout=20).order
            if read.id != self._order_id:
                raise AssertionError(f"expected {self._order_id}, came {read.id}")
        seconds = (time.perf_counter() - clock) / calls
        self.rounds.append((seconds, (processor_seconds(self._pid) - processor) / calls))

    def medians(self) -> tuple[float, float]:
        """Return the waiting time and the processor time of a call, in seconds."""
        waits, used = zip(*self.rounds, strict=True)
        return statistics.median(waits), statistics.median(used)

    def _place(self) -> str:
        mug = order_service_pb2.NewOrderItem(
            sku="MUG-1",
            name="Mug",
            quantity=2,
            unit_price=Money(currency_code="EUR", minor_units=1250),
        )
        request = order_service_pb2.CreateOrderRequest(
            idempotency_key=new_id("key-"),
            customer_id="" if self._is_customer else ALICE.id,
            items=[mug],
        )
        reply = self._orders.CreateOrder(request, metadata=self._metadata, timeout=20)
        return reply.order.id

    @property
    def _is_customer(self) -> bool:
        return bool(self._metadata)


@contextmanager
def _ways() -> Iterator[list[Way]]:
    # A pair of processes for each: what else a pair serves must not make it faster or slower.
    with ExitStack() as stack:
        plain, plain_again, certified, bearing = (
            _running(stack, secured=is_secured) for is_secured in (False, False, True, True)
        )
        yield [
            _way(stack, "plaintext", plain, ALICE.metadata),
            _way(stack, "plaintext again", plain_again, ALICE.metadata),
            _way(stack, "mTLS", certified, (), shown=_certificate(certified)),
            _way(stack, "mTLS and a token", bearing, bearing.connections.metadata(ALICE)),
        ]


def _running(stack: ExitStack, *, secured: bool) -> Pair:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    # Nobody's share of calls is what is measured.
    pair = Pair(folder, {"ORDER_SERVICE_CUSTOMER_RATE": "0"}, secured=secured)
    stack.callback(pair.stop)
    pair.start()
    return pair


def _certificate(pair: Pair) -> grpc.ChannelCredentials:
    folder = Path(pair.connections.variables["ORDER_SERVICE_TLS_CERT_FILE"]).parent
    names = (credentials.CA, "shop-backend.key", "shop-backend.pem")
    return grpc.ssl_channel_credentials(*((folder / name).read_bytes() for name in names))


def _way(
    stack: ExitStack,
    name: str,
    pair: Pair,
    metadata: Metadata,
    *,
    shown: grpc.ChannelCredentials | None = None,
) -> Way:
    address = pair.order.address
    channel = (
        grpc.secure_channel(address, shown, options=CHANNEL_OPTIONS)
        if shown
        else pair.connections.channel(address)
    )
    stack.callback(channel.close)
    return Way(name, pair.order.pid, channel, metadata)


def _verifying(key: TokenKey, token: str) -> tuple[float, float]:
    """Return what it costs to verify a token for the first time and again, in seconds."""
    kid = jwt.get_unverified_header(token)["kid"]
    new = partial(
        TokenVerifier, {kid: key}, issuer=ISSUER, audience=AUDIENCES[0], clock=SystemClock()
    )
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_VERIFICATIONS):
        verifier = new()
        for kept in times:
            began = time.perf_counter()
            verifier.verify(token)
            kept.append(time.perf_counter() - began)
    return statistics.median(times[0]), statistics.median(times[1])


def _show_verification() -> None:
    issuer, rsa = TokenIssuer(), generate_private_key(65537, 2048)
    token = issuer.token(ALICE.role, ALICE.id)
    # nosemgrep: unpinned-jwt - its own token, to sign what it says once more
    claims = jwt.decode(token, options={"verify_signature": False})
    print(f"\n{'verifying a token':20} {'first':>12} {'again':>12}")
    for key, signed in (
        (TokenKey("EdDSA", issuer.public_key), token),
        (TokenKey("RS256", rsa.public_key()), jwt.encode(claims, rsa, "RS256", {"kid": "rsa"})),
    ):
        first, again = _verifying(key, signed)
        print(f"{key.algorithm:20} {first * 1e3:9.3f} ms {again * 1e3:9.3f} ms")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--calls", type=int, default=500, help="of each way, in each round")
    options = parser.parse_args()
    with _ways() as ways:
        for way in ways:
            way.measure(100)
            way.rounds.clear()
        for _ in range(options.rounds):
            for way in ways:
                way.measure(options.calls)
        print(f"{'reading an order':20} {'waits':>12} {'CPU':>12}")
        for way in ways:
            waits, used = way.medians()
            print(f"{way.name:20} {waits * 1e3:9.3f} ms {used * 1e3:9.3f} ms")
    _show_verification()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Both services as real processes, and the ways to call them and to look inside."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from checkout.order.v1 import order_pb2
from deploy.connections import CHANNEL_OPTIONS
from deploy.processes import Pair, ServiceProcess
from tests.builders import new_order_items
from tests.client import (
    ALICE,
    OPERATIONS,
    ORDER_SERVICE_NAME,
    PAYMENT_SERVICE_NAME,
    Caller,
    Client,
)
from tests.ledger import Ledger
from tests.waiting import eventually


class RealCheckout:
    """A pair of processes over a folder."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.folder = folder
        self.ledger = Ledger(pair.ledger)
        self._channels = [
            grpc.insecure_channel(process.address, options=CHANNEL_OPTIONS)
            for process in pair.processes
        ]

    def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            channel.close()

    def orders(self, caller: Caller = ALICE) -> Client:
        """Return a client of the order service."""
        return Client(self._channels[0], ORDER_SERVICE_NAME, caller)

    def payments(self, caller: Caller = ALICE) -> Client:
        """Return a client of the payment service."""
        return Client(self._channels[1], PAYMENT_SERVICE_NAME, caller)

    def place(self) -> order_pb2.Order:
        """Place an order and return it."""
        order: order_pb2.Order = self.orders().CreateOrder(items=new_order_items()).order
        return order

    def status(self, order: order_pb2.Order) -> str:
        """Read where an order stands."""
        read = self.orders(OPERATIONS).GetOrder(order_id=order.id).order
        return order_pb2.OrderStatus.Name(read.status)

    def wait_for_charge(self, order: order_pb2.Order) -> None:
        """Wait until the gateway has booked a charge, whether it has answered or not."""
        eventually(lambda: self.ledger.charges(order.id))


@contextmanager
def running(folder: Path, variables: Mapping[str, str]) -> Iterator[RealCheckout]:
    """Run both processes over databases that are ready for them."""
    pair = Pair(folder, variables)
    checkout = RealCheckout(pair, folder)
    try:
        # In this order the first call of the order service already finds its neighbour.
        for process in (pair.payment, pair.order):
            process.start()
            process.wait_until_serving()
        yield checkout
    finally:
        checkout.close()
        pair.stop()


def log_lines(process: ServiceProcess, event: str) -> list[dict[str, Any]]:
    """Return the log's lines of an event. Every line must be a JSON object."""
    lines = [json.loads(line) for line in process.log().splitlines()]
    return [line for line in lines if line["event"] == event]

"""What the services write down, and what they do not."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2
from tests.assertions import refused
from tests.builders import new_order_items
from tests.e2e.real_checkout import RealCheckout, log_lines, running

CARD_NUMBER = "4242424242424242"
TOKEN = "tok_mastercard"


@dataclass(frozen=True)
class Left:
    """What both services have written, once they have ended."""

    order: list[dict[str, Any]]
    payment: list[dict[str, Any]]
    logs: dict[str, bytes]
    databases: dict[str, bytes]
    secret: bytes
    ticket: bytes
    trace_id: str


@pytest.fixture(scope="module")
def left() -> Iterator[Left]:
    """Two payments and calls with card numbers, then a look at everything that was written."""
    with tempfile.TemporaryDirectory(prefix="checkout e2e ") as path:
        folder = Path(path)
        with running(folder, {}) as checkout:
            order, direct = checkout.place(), checkout.place()
            paid = checkout.orders().answer("PayOrder", order_id=order.id, payment_token=TOKEN)
            checkout.payments().ProcessPayment(
                payment_ticket=direct.payment_ticket, payment_token=TOKEN
            )
            _send_card_numbers(checkout, direct)
        yield Left(
            order=log_lines(checkout.pair.order, "rpc"),
            payment=[
                line
                for line in log_lines(checkout.pair.payment, "rpc")
                # The order service reads on in the background.
                if not line["method"].endswith("/ListPaymentAuditEntries")
            ],
            logs={path.name: path.read_bytes() for path in folder.glob("*.log")},
            databases={path.name: path.read_bytes() for path in folder.glob("*.db*")},
            secret=(folder / "secret.key").read_bytes().strip(),
            ticket=direct.payment_ticket.encode(),
            trace_id=paid.trailers["x-trace-id"],
        )


class TestLog:
    @pytest.mark.requirement("FR-232")
    def test_is_json_with_one_line_for_each_call(self, left: Left) -> None:
        assert [_told(line) for line in left.order] == [
            ("CreateOrder", "OK", ""),
            ("CreateOrder", "OK", ""),
            ("PayOrder", "OK", ""),
            ("PayOrder", "INVALID_ARGUMENT", "CARD_DATA_NOT_ACCEPTED"),
            ("CreateOrder", "INVALID_ARGUMENT", "CARD_DATA_NOT_ACCEPTED"),
        ]
        assert [_told(line) for line in left.payment] == [
            ("ProcessPayment", "OK", ""),
            ("ProcessPayment", "OK", ""),
            ("ProcessPayment", "INVALID_ARGUMENT", "CARD_DATA_NOT_ACCEPTED"),
        ]

    @pytest.mark.requirement("FR-232")
    def test_has_one_trace_across_both_services(self, left: Left) -> None:
        [ours] = [line for line in left.order if line["trace_id"] == left.trace_id]
        [theirs] = [line for line in left.payment if line["trace_id"] == left.trace_id]

        assert (ours["caller"], ours["role"]) == ("alice", "customer")
        assert (theirs["caller"], theirs["role"]) == ("order-service", "order_service")
        assert theirs["on_behalf_of"] == "alice"

    @pytest.mark.requirement("FR-126", "FR-232", "FR-233")
    def test_and_database_files_hold_no_secret_no_token_and_no_card_number(
        self, left: Left
    ) -> None:
        assert {"order.db", "payment.db", "gateway.db"} <= left.databases.keys()
        assert len(left.logs) == 2
        for name, content in (left.logs | left.databases).items():
            assert content, name
            assert left.secret not in content, name
            assert CARD_NUMBER.encode() not in content, name
            assert TOKEN.encode() not in content, name
        assert not [name for name, content in left.logs.items() if left.ticket in content]


def _told(line: dict[str, Any]) -> tuple[str, str, str]:
    return line["method"].rpartition("/")[2], line["code"], line["reason"]


def _send_card_numbers(checkout: RealCheckout, order: order_pb2.Order) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "CARD_DATA_NOT_ACCEPTED"):
        checkout.orders().PayOrder(order_id=order.id, payment_token=CARD_NUMBER)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "CARD_DATA_NOT_ACCEPTED"):
        checkout.payments().ProcessPayment(
            payment_ticket=order.payment_ticket, payment_token=CARD_NUMBER
        )
    [first, second] = new_order_items()
    first.name = f"Card {CARD_NUMBER[:8]} {CARD_NUMBER[8:]}"
    second.sku = CARD_NUMBER
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "CARD_DATA_NOT_ACCEPTED"):
        checkout.orders().CreateOrder(items=[first, second])

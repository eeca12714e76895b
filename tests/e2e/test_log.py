"""What the services write down, and what they do not."""

from pathlib import Path

import grpc
import pytest

from tests.assertions import refused
from tests.builders import new_order_items
from tests.e2e.real_checkout import RealCheckout, log_lines, running

CARD_NUMBER = "4242424242424242"
TOKEN = "tok_mastercard"


class TestLog:
    @pytest.mark.requirement("FR-232")
    def test_has_one_line_for_each_call_and_one_trace_across_services(self, folder: Path) -> None:
        with running(folder, {}) as checkout:
            order = checkout.place()
            trace_id = (
                checkout.orders()
                .answer("PayOrder", order_id=order.id, payment_token=TOKEN)
                .trailers["x-trace-id"]
            )
            checkout.pair.stop()

            ours = log_lines(checkout.pair.order, "rpc")
            theirs = log_lines(checkout.pair.payment, "rpc")

        assert [line["method"].rpartition("/")[2] for line in ours] == ["CreateOrder", "PayOrder"]
        assert [line["method"].rpartition("/")[2] for line in theirs] == ["ProcessPayment"]
        assert ours[1]["trace_id"] == theirs[0]["trace_id"] == trace_id
        assert (ours[1]["caller"], ours[1]["role"], ours[1]["code"]) == ("alice", "customer", "OK")
        assert (theirs[0]["caller"], theirs[0]["on_behalf_of"]) == ("order-service", "alice")

    @pytest.mark.requirement("FR-126", "FR-232", "FR-233")
    def test_and_database_files_hold_no_secret_no_token_and_no_card_number(
        self, folder: Path
    ) -> None:
        with running(folder, {}) as checkout:
            order = checkout.place()
            checkout.orders().PayOrder(order_id=order.id, payment_token=TOKEN)
            direct = checkout.place()
            checkout.payments().ProcessPayment(
                payment_ticket=direct.payment_ticket, payment_token=TOKEN
            )
            _send_card_numbers(checkout)
            secret = (folder / "secret.key").read_bytes().strip()
            ticket = order.payment_ticket.encode()
            checkout.pair.stop()

            logs = {path.name: path.read_bytes() for path in folder.glob("*.log")}
            databases = {path.name: path.read_bytes() for path in folder.glob("*.db*")}

        assert {"order.db", "payment.db", "gateway.db"} <= databases.keys()
        assert len(logs) == 2
        for name, content in (logs | databases).items():
            assert content, name
            assert secret not in content, name
            assert CARD_NUMBER.encode() not in content, name
            assert TOKEN.encode() not in content, name
        assert not [name for name, content in logs.items() if ticket in content]


def _send_card_numbers(checkout: RealCheckout) -> None:
    order = checkout.place()
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

"""What the log says, and what it never says."""

from pathlib import Path

import pytest

from payment_service.gateways.simulated_tokens import TOKENS
from service_kit.ids import new_id
from tests.captured_log import captured_log
from tests.checkout import SECRET
from tests.client import ORDER_SERVICE
from tests.integration.payment_service.desk import running_desk


@pytest.fixture
def text(sqlite_url: str, tmp_path: Path) -> str:
    """All that is logged while every token is charged, refunded and sealed."""
    with captured_log() as log, running_desk(tmp_path, sqlite_url) as desk:
        for token in TOKENS:
            request = desk.process_request(token)
            desk.calls.ProcessPayment(request)
            payment = desk.calls.ProcessPayment(request).payment
            if desk.charges(payment.order_id):
                desk.refund(payment, 1)
            desk.seal(payment.order_id)
        return log.text


def test_no_token_ticket_or_secret_is_ever_logged(text: str) -> None:
    assert "ProcessPayment" in text
    for secret in ("tok_", "eyJ", SECRET):
        assert secret not in text


def test_a_call_is_found_by_its_trace_id(sqlite_url: str, tmp_path: Path) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    caller = ORDER_SERVICE.with_metadata(("x-trace-id", trace_id))
    with captured_log() as log, running_desk(tmp_path, sqlite_url) as desk:
        desk.as_(caller).SealOrder(order_id=new_id("ord_"))
        [line] = log.lines("rpc")
    assert line["trace_id"] == trace_id
    assert line["method"].endswith("/SealOrder")
    assert (line["code"], line["caller"]) == ("OK", "order-service")

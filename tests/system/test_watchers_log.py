"""What is written down and counted of a stream."""

from collections.abc import Iterator

import grpc
import pytest

from tests.builders import new_trace_id
from tests.captured_log import CapturedLog, captured_log
from tests.checkout import Checkout
from tests.client import ALICE, SHOP, Caller
from tests.system.checkouts import Checkouts
from tests.system.metrics import calls, orders
from tests.system.simultaneously import wait_until
from tests.system.watching import lines_of_streams, trace_id_of, watching


@pytest.fixture(scope="module")
def log() -> Iterator[CapturedLog]:
    """What both services of the module write."""
    with captured_log() as log:
        yield log


@pytest.fixture(scope="module")
def checkout(checkouts: Checkouts, log: CapturedLog) -> Iterator[Checkout]:
    """A checkout whose log and metrics are read."""
    with checkouts.running(metrics_port=0, heartbeat_seconds=0.2) as running:
        yield running


@pytest.mark.requirement("FR-232")
class TestAStreamsLogLine:
    def test_is_written_once_at_its_end_and_says_how_many_entries_were_sent(
        self, checkout: Checkout, log: CapturedLog
    ) -> None:
        order, trace_id = checkout.fulfill(checkout.paid()), new_trace_id()
        shop = SHOP.with_metadata(("x-trace-id", trace_id), ("x-on-behalf-of", "alice"))
        client = checkout.orders(shop)
        with watching(checkout, order_id=order.id, client=client) as (watcher, stream):
            watcher.take_entries(stream, 3)
            watcher.take_heartbeat(stream)
            assert trace_id_of(stream) == trace_id
            assert lines_of_streams(log, [trace_id]) == []
        wait_until(lambda: lines_of_streams(log, [trace_id]) != [])
        [line] = lines_of_streams(log, [trace_id])
        assert (line["code"], line["reason"], line["entries"]) == ("CANCELLED", "", 3)
        assert (line["caller"], line["role"], line["on_behalf_of"]) == (
            "shop-backend",
            "service",
            "alice",
        )
        assert line["duration_ms"] > 0

    @pytest.mark.parametrize(
        ("caller", "body", "reason"),
        [
            (Caller("nobody", "x"), b"", "CREDENTIALS_MISSING"),
            (ALICE, b"", "ROLE_NOT_ALLOWED"),
            (SHOP, b"\xff", "VALIDATION_FAILED"),
            (SHOP, b"\x12\x82\x80\x04" + b"a" * 65_538, "VALIDATION_FAILED"),
        ],
        ids=["no identity", "role", "bytes that are no request", "more than 64 kB"],
    )
    def test_is_written_for_a_refusal_too(
        self, checkout: Checkout, log: CapturedLog, caller: Caller, body: bytes, reason: str
    ) -> None:
        trace_id = new_trace_id()
        client = checkout.orders(caller.with_metadata(("x-trace-id", trace_id)))
        with pytest.raises(grpc.RpcError):
            client.send("WatchOrderEvents", body)
        [line] = lines_of_streams(log, [trace_id])
        assert (line["reason"], line["entries"]) == (reason, 0)

    @pytest.mark.requirement("FR-250")
    def test_goes_with_a_count_and_while_it_is_open_it_is_in_progress(
        self, checkout: Checkout
    ) -> None:
        def in_progress() -> float | None:
            seen = orders(checkout)
            return seen.value("checkout_rpc_calls_in_progress", method="WatchOrderEvents")

        wait_until(lambda: in_progress() == 0)
        before = calls(orders(checkout)).get("WatchOrderEvents CANCELLED", 0)
        with watching(checkout):
            assert in_progress() == 1
        wait_until(lambda: in_progress() == 0)
        assert calls(orders(checkout))["WatchOrderEvents CANCELLED"] == before + 1

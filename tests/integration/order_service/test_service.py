"""The service as bootstrap puts it together, and as a program."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2, order_service_pb2_grpc
from order_service.application.ports import Payments
from order_service.bootstrap import MIGRATIONS, build
from order_service.config import Settings
from service_kit.migrations import upgrade
from service_kit.schema import pending
from service_kit.secrets import load_secret
from tests.assertions import refused
from tests.builders import new_key, new_order_items, new_request
from tests.checkout import SECRET
from tests.integration.order_service.scripted_payments import ScriptedPayments
from tests.servers.places import free_port

ALICE = (("x-actor-id", "alice"), ("x-actor-role", "customer"))


@contextmanager
def running(folder: Path, *, payments: Payments | None = None, **settings: Any) -> Iterator[Any]:
    """Run the service in this process and call it as Alice: call("PayOrder", order_id=…)."""
    given = Settings(data_dir=folder, port=0, metrics_port=None, background_work=False, **settings)
    upgrade(given.effective_database_url(), MIGRATIONS, secret=lambda: load_secret(given))
    server = build(given, payments=payments)
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = order_service_pb2_grpc.OrderServiceStub(channel)

        def call(rpc: str, **fields: Any) -> order_pb2.Order:
            response = getattr(stub, rpc)(new_request(rpc, **fields), metadata=ALICE, timeout=20)
            order: order_pb2.Order = response.order
            return order

        try:
            yield call
        finally:
            server.stop()


class TestBuild:
    def test_takes_the_payments_it_is_given(self, tmp_path: Path) -> None:
        payments = ScriptedPayments()
        with running(tmp_path, payments=payments) as call:
            order = call("CreateOrder", items=new_order_items(4000))
            paid = call("PayOrder", order_id=order.id, payment_token="tok_visa")

        assert paid.status == order_pb2.ORDER_STATUS_PAID
        assert payments.charges(order.id) == 1

    def test_without_a_payment_service_keeps_orders_and_says_so(self, tmp_path: Path) -> None:
        target = f"127.0.0.1:{free_port()}"
        with running(tmp_path, payment_target=target) as call:
            order = call("CreateOrder", items=new_order_items())
            fields = {
                "order_id": order.id,
                "payment_token": "tok_visa",
                "idempotency_key": new_key(),
            }
            with pytest.raises(grpc.RpcError) as error:
                call("PayOrder", **fields)

            assert call("GetOrder", order_id=order.id).status == order_pb2.ORDER_STATUS_CREATED
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE

    @pytest.mark.requirement("FR-205", "FR-206")
    def test_keeps_what_it_knows_over_a_restart(self, tmp_path: Path) -> None:
        fields = {"idempotency_key": new_key(), "items": new_order_items()}
        with running(tmp_path, payments=ScriptedPayments()) as call:
            first = call("CreateOrder", **fields)
        with running(tmp_path, payments=ScriptedPayments()) as call:
            assert call("CreateOrder", **fields) == first
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED"):
                call("CancelOrder", order_id=first.id, idempotency_key=fields["idempotency_key"])


@pytest.mark.requirement("FR-131")
def test_the_program_migrates_its_database(sqlite_url: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "ORDER_SERVICE_DATABASE_URL": sqlite_url,
        "CHECKOUT_DATA_DIR": str(tmp_path),
        "CHECKOUT_SECRET_KEY": SECRET,
    }
    command = [sys.executable, "-m", "order_service", "migrate"]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr

    assert not pending(sqlite_url, MIGRATIONS)

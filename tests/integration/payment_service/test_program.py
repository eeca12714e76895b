"""python -m payment_service as a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from checkout.payment.v1 import payment_pb2
from service_kit.ids import new_id
from tests.checkout import SECRET
from tests.client import ORDER_SERVICE, PAYMENT_SERVICE_NAME, Client

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 60


def environment(data_dir: Path, **variables: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'generated'}",
        "CHECKOUT_DATA_DIR": str(data_dir),
        "CHECKOUT_SECRET_KEY": SECRET,
        "PAYMENT_SERVICE_PORT": "0",
        "PAYMENT_SERVICE_LOG_FORMAT": "json",
        **variables,
    }


def run(command: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "payment_service", command],
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def test_on_postgres_it_waits_for_somebody_to_migrate(postgres_url: str, tmp_path: Path) -> None:
    variables = environment(tmp_path, PAYMENT_SERVICE_DATABASE_URL=postgres_url)
    refused = run("serve", variables)
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert "python -m payment_service migrate" in line
    assert run("migrate", variables).returncode == 0


@pytest.fixture
def served(tmp_path: Path) -> Path:
    return tmp_path / "a folder that is not there yet"


def test_the_embedded_default_serves_from_nothing_and_drains(served: Path) -> None:
    log = served.parent / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "payment_service", "serve"],
            env=environment(served),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with grpc.insecure_channel(_address(log, process)) as channel:
            client = Client(channel, PAYMENT_SERVICE_NAME, ORDER_SERVICE)
            reply = client.ResolvePayment(
                order_id=new_id("ord_"), payment_idempotency_key="k", timeout=PATIENCE_SECONDS
            )
        assert reply.payment.status == payment_pb2.PAYMENT_STATUS_VOIDED
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    assert {path.name for path in served.iterdir()} >= {"payment.db", "gateway.db"}
    assert "stopped" in log.read_text()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"listening"' in line:
                return line.partition('"address":"')[2].partition('"')[0]
        time.sleep(0.05)
    raise AssertionError(f"the service did not start:\n{log.read_text()}")

"""Several processes of a service on one port: all answer, one is replaced, all end together."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2
from deploy.processes import MODULES, ROOT, ServiceProcess, free_ports, without_settings
from service_kit.settings import METRICS_PORT_STEP
from tests.builders import new_key, new_order_items
from tests.client import ALICE, ORDER_SERVICE_NAME, Client
from tests.e2e.real_checkout import RealCheckout, log_lines, running
from tests.scrape import scrape_server
from tests.waiting import eventually

PREFIXES = dict(zip(MODULES, ("ORDER_SERVICE", "PAYMENT_SERVICE"), strict=True))
SLOW = {"PAYMENT_SERVICE_GATEWAY_SLOW_SECONDS": "1.5"}

both_services = pytest.mark.parametrize("module", MODULES)


@pytest.mark.requirement("FR-135")
class TestWorkers:
    def test_all_answer_and_end_together_after_their_calls(
        self, database_variables: dict[str, str], folder: Path
    ) -> None:
        variables = {"ORDER_SERVICE_WORKERS": "3", "PAYMENT_SERVICE_WORKERS": "2"}
        with (
            running(folder, database_variables | SLOW | variables) as checkout,
            ThreadPoolExecutor(1) as pool,
        ):
            pair = checkout.pair
            _wait_for_all(pair.order, 3)
            _wait_for_all(pair.payment, 2)
            eventually(lambda: _all_placed_after_another(pair.order))
            order = checkout.place()
            payment = pool.submit(
                checkout.orders().PayOrder,
                idempotency_key=new_key(),
                order_id=order.id,
                payment_token="tok_slow",
            )
            checkout.wait_for_charge(order)

            pair.order.terminate()

            assert payment.result(20).order.status == order_pb2.ORDER_STATUS_PAID
            assert pair.order.wait(30) == 0
            assert pair.stop() == [0, 0]
        assert [len(log_lines(its, "stopped")) for its in pair.processes] == [3, 2]
        # On PostgreSQL somebody else does.
        migrations = 0 if database_variables else 1
        assert [len(log_lines(its, "migrated")) for its in pair.processes] == [migrations] * 2
        assert checkout.ledger.charges(order.id) == [4000]

    def test_one_that_is_killed_is_replaced_and_no_answered_order_is_lost(
        self, folder: Path
    ) -> None:
        with running(folder, {"ORDER_SERVICE_WORKERS": "2"}) as checkout:
            process = checkout.pair.order
            killed, other = _wait_for_all(process, 2)
            placed = _orders_placed_during(process, kill=killed)

            [ended] = log_lines(process, "process.ended")
            assert (ended["pid"], ended["exit_code"]) == (killed, -signal.SIGKILL)
            assert other in _pids(process)
            assert {checkout.status(order) for order in placed} == {"ORDER_STATUS_CREATED"}
            assert checkout.pair.stop() == [0, 0]

    def test_none_outlives_a_parent_that_is_killed(self, folder: Path) -> None:
        parent = subprocess.Popen(
            [sys.executable, "-m", "order_service", "serve", "--workers", "2"],
            cwd=ROOT,
            env=_environment(folder, "order_service"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert parent.stdout is not None
        try:
            while b"processes.serving" not in (line := parent.stdout.readline()):
                assert line, "it ended"
        finally:
            parent.kill()

        # The workers have the same standard output: it ends with the last of them.
        last_words, _ = parent.communicate(timeout=60)
        assert last_words.count(b'"event":"stopped"') == 2


@both_services
@pytest.mark.requirement("FR-135")
class TestRefusal:
    def test_of_a_port_that_is_taken(
        self, module: str, checkout: RealCheckout, folder: Path
    ) -> None:
        address = checkout.pair.order.address
        port = {f"{PREFIXES[module]}_PORT": address.rpartition(":")[2]}

        done = _serve(module, folder, "--workers", "2", **port)

        assert done.returncode == 1
        assert done.stderr == f"cannot listen on {address}: the port is taken by another process\n"

    def test_of_a_metrics_port_that_is_taken_from_a_worker(self, module: str, folder: Path) -> None:
        with _listening() as port:
            variable = f"{PREFIXES[module]}_METRICS_PORT"
            first = {variable: str(port - METRICS_PORT_STEP)}
            done = _serve(module, folder, "--workers", "2", **first)

        assert done.returncode == 1
        assert done.stderr == (
            f"cannot listen on 127.0.0.1:{port}: the port is taken by another process;"
            f" {variable} chooses another\n"
            "worker 1 did not start (exit code 1)\n"
        )

    def test_of_more_workers_than_there_may_be(self, module: str, folder: Path) -> None:
        done = _serve(module, folder, "--workers", "65")

        assert done.returncode == 2
        assert f"{PREFIXES[module]}_WORKERS: " in done.stderr
        assert done.stderr.endswith("; accepts 1 to 64\n")


def _wait_for_all(process: ServiceProcess, count: int) -> list[int]:
    eventually(lambda: log_lines(process, "processes.serving"))
    pids = _pids(process)
    assert len(set(pids)) == count
    return pids


def _pids(process: ServiceProcess) -> list[int]:
    return [line["pid"] for line in log_lines(process, "listening")]


def _place_by_another_connection(process: ServiceProcess) -> order_pb2.Order:
    # The kernel chooses the worker when a connection is made; usual channels share one.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with closing(grpc.insecure_channel(process.address, options)) as channel:
        client = Client(channel, ORDER_SERVICE_NAME, ALICE)
        order: order_pb2.Order = client.CreateOrder(items=new_order_items()).order
        return order


def _all_placed_after_another(process: ServiceProcess) -> bool:
    """Place an order by another connection, and say whether each worker has placed one."""
    _place_by_another_connection(process)
    pages = [scrape_server(line["metrics"]) for line in log_lines(process, "listening")]
    return all(
        any(
            labels["method"] == "CreateOrder" and value
            for labels, value in page.series("checkout_rpc_calls_total")
        )
        for page in pages
    )


def _orders_placed_during(process: ServiceProcess, *, kill: int) -> list[order_pb2.Order]:
    """Place orders until a killed worker has a successor. Return those that were answered."""
    placed = [_place_by_another_connection(process) for _ in range(5)]
    os.kill(kill, signal.SIGKILL)

    def is_replaced() -> bool:
        try:
            placed.append(_place_by_another_connection(process))
        except grpc.RpcError as error:
            # The killed one may have had the connection.
            if _code(error) is not grpc.StatusCode.UNAVAILABLE:
                raise
        return len(_pids(process)) == 3

    eventually(is_replaced)
    return placed


def _code(error: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code


@contextmanager
def _listening() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_ports(1)[0]))
        other.listen()
        yield other.getsockname()[1]


def _environment(folder: Path, module: str) -> dict[str, str]:
    return {
        **without_settings(os.environ),
        "CHECKOUT_DATA_DIR": str(folder),
        f"{PREFIXES[module]}_PORT": "0",
        f"{PREFIXES[module]}_METRICS_PORT": "0",
    }


def _serve(
    module: str, folder: Path, *arguments: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module, "serve", *arguments],
        cwd=ROOT,
        env={**_environment(folder, module), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

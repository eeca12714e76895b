"""Envoy as a real process before the services: its configuration, its health, its counts."""

import subprocess
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Final
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from deploy.processes import ROOT, START_SECONDS, STOP_SECONDS, NotServing

ENVOY: Final = ROOT / ".venv-proxy" / "bin" / "envoy"
TEMPLATE: Final = ROOT / "deploy" / "envoy.yaml"
PORTS: Final = (
    *("admin_port", "orders_port", "payments_port"),
    *("order_1_port", "order_2_port", "payment_1_port", "payment_2_port"),
)
CLUSTERS: Final = ("orders", "payments")

_POLL_SECONDS: Final = 0.05
_ASK_SECONDS: Final = 5
# Loopback is never reached through a proxy.
_opener: Final = build_opener(ProxyHandler({}))


def is_set_up() -> bool:
    """Say whether Envoy is there."""
    return ENVOY.exists()


def configuration(ports: Mapping[str, int]) -> str:
    """Fill in the ports. Raises KeyError if one is missing."""
    return Template(TEMPLATE.read_text("utf-8")).substitute(ports)


def accepts(file: Path) -> subprocess.CompletedProcess[str]:
    """Ask Envoy whether it would run with a configuration; exit code 0 if so."""
    return subprocess.run(
        [ENVOY, "--mode", "validate", "--config-path", file],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )


class Proxy:
    """Envoy with the project's configuration."""

    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        """Write its configuration and its log into the folder."""
        self.orders = f"127.0.0.1:{ports['orders_port']}"
        self.payments = f"127.0.0.1:{ports['payments_port']}"
        self._admin = f"http://127.0.0.1:{ports['admin_port']}"
        self._file = folder / "envoy.yaml"
        self._file.write_text(configuration(ports), "utf-8")
        self._log = folder / "envoy.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, without waiting for anything."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(ENVOY, "--config-path", self._file, "--log-level", "warning"),
                    # Each of its threads goes round on its own: with one, the turns are exact.
                    *("--concurrency", "1"),
                    # Nobody takes over from it while it runs.
                    "--disable-hot-restart",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # As the services: whoever started them ends all in order.
                process_group=0,
            )

    def wait_for(self, members: int) -> None:
        """Wait until both clusters have so many healthy members. Raises NotServing."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise self._not_serving("ended")
            if all(self._healthy(cluster) >= members for cluster in CLUSTERS):
                return
            time.sleep(_POLL_SECONDS)
        raise self._not_serving("did not find the services")

    def stop(self) -> None:
        """End it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def count(self, cluster: str, name: str) -> int:
        """Read one of its counts of a cluster; 0 if nothing was counted."""
        stat = f"cluster.{cluster}.{name}"
        for line in self._ask(f"/stats?filter=^{stat}$").splitlines():
            found, _, value = line.partition(": ")
            if found == stat:
                return int(value)
        return 0

    def _healthy(self, cluster: str) -> int:
        try:
            return self.count(cluster, "membership_healthy")
        except (URLError, OSError):
            return 0

    def _ask(self, path: str) -> str:
        with _opener.open(self._admin + path, timeout=_ASK_SECONDS) as response:
            assert response.status == HTTPStatus.OK
            return str(response.read().decode())

    def _not_serving(self, problem: str) -> NotServing:
        tail = self._log.read_text("utf-8", errors="replace").splitlines()[-20:]
        return NotServing(module="envoy", problem=problem, log="\n".join(tail))

"""What `make serve` runs: both services, together or not at all."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from deploy import credentials
from deploy.processes import ROOT, without_settings
from tests.checkout import SECRET
from tests.scrape import scrape
from tests.servers.postgres import PostgresServer
from tests.waiting import eventually


class TestServe:
    @pytest.fixture
    def serving(self, folder: Path) -> Iterator["_Serving"]:
        """What `make serve` runs, on free ports, once it says where it listens."""
        with _Serving(folder) as serving:
            yield serving

    def test_keeps_both_until_ctrl_c(self, serving: "_Serving") -> None:
        assert serving.process.poll() is None
        assert len(serving.addresses) == 2

        assert serving.end(signal.SIGINT) == 0
        assert not any(map(_is_alive, serving.pids))

    @pytest.mark.requirement("FR-253")
    def test_says_where_the_metrics_are(self, serving: "_Serving") -> None:
        told = [scrape(url).labels("checkout_build_info")["service"] for url in serving.metrics]
        assert told == ["payment-service", "order-service"]

    def test_ends_the_other_when_one_dies(self, serving: "_Serving") -> None:
        os.kill(serving.pids[0], signal.SIGKILL)

        assert serving.process.wait(30) == 1
        assert not _is_alive(serving.pids[1])

    def test_migrates_and_serves_on_postgres(
        self, folder: Path, postgres_server: PostgresServer
    ) -> None:
        orders, payments = postgres_server.create_database(), postgres_server.create_database()
        variables = {
            "ORDER_SERVICE_DATABASE_URL": orders,
            "PAYMENT_SERVICE_DATABASE_URL": payments,
            "CHECKOUT_SECRET_KEY": SECRET,
        }
        with _Serving(folder, **variables) as serving:
            assert serving.end(signal.SIGTERM) == 0
            assert not any(map(_is_alive, serving.pids))
        for url in (orders, payments):
            postgres_server.drop_database(url)

    @pytest.mark.requirement("FR-314")
    def test_serves_with_what_make_certs_has_made(self, folder: Path) -> None:
        made = folder / "credentials"
        command = [sys.executable, "deploy/serve.py", "--secured", str(made)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "first run: make certs" in done.stderr

        credentials.make(made)
        with _Serving(folder, "--secured", str(made)) as serving:
            assert serving.text.count('"tls":true') == 2
            assert serving.end(signal.SIGTERM) == 0

    def test_tells_the_mistakes_of_both(self, folder: Path) -> None:
        wrong = {
            "ORDER_SERVICE_PORT": "-1",
            "PAYMENT_SERVICE_THREADS": "0",
            "CHECKOUT_SECRET_KEY": "too short",
        }
        done = subprocess.run(
            [sys.executable, "deploy/serve.py"],
            cwd=ROOT,
            env={**without_settings(os.environ), **wrong},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

        assert done.returncode == 2
        assert sorted(re.findall(r"^([A-Z_]+): ", done.stderr, re.MULTILINE)) == [
            "CHECKOUT_SECRET_KEY",
            "ORDER_SERVICE_PORT",
            "PAYMENT_SERVICE_THREADS",
        ]


class _Serving:
    """deploy/serve.py on free ports."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self._output = folder / "serve.log"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "deploy/serve.py", *arguments],
                cwd=ROOT,
                env={
                    **without_settings(os.environ),
                    "CHECKOUT_DATA_DIR": str(folder),
                    "ORDER_SERVICE_PORT": "0",
                    "PAYMENT_SERVICE_PORT": "0",
                    "ORDER_SERVICE_METRICS_PORT": "0",
                    "PAYMENT_SERVICE_METRICS_PORT": "0",
                    **variables,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        eventually(lambda: self._is_told() or self.process.poll() is not None, seconds=60)
        text = self.text = self._output.read_text()
        assert self.process.poll() is None, text
        self.addresses = re.findall(r"^\w+ +listens on (\S+)$", text, re.MULTILINE)
        self.metrics = re.findall(r"^ +metrics at (\S+)$", text, re.MULTILINE)
        self.pids = [int(pid) for pid in re.findall(r'"event":"listening".*?"pid":(\d+)', text)]
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGTERM)

    def _is_told(self) -> bool:
        # A service answers a moment before it writes that it listens.
        text = self._output.read_text()
        return "Ctrl-C" in text and text.count('"event":"listening"') == 2

    def end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

"""The services' command lines: what they refuse, what they tell, and how they start."""

import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.processes import MODULES, ROOT, Pair, without_settings
from tests.checkout import SECRET
from tests.e2e.real_checkout import RealCheckout

PREFIXES = dict(zip(MODULES, ("ORDER_SERVICE", "PAYMENT_SERVICE"), strict=True))

both_services = pytest.mark.parametrize("module", MODULES)


@both_services
class TestSettings:
    @pytest.mark.requirement("FR-129", "FR-130")
    def test_mistakes_are_told_all_at_once_without_a_secret(self, module: str) -> None:
        prefix = PREFIXES[module]
        mistakes = {
            f"{prefix}_HOST": "0.0.0.0",  # noqa: S104 - refused
            f"{prefix}_PORT": "seventy",
            f"{prefix}_THREADS": "0",
            f"{prefix}_DATABASE_URL": "mysql://user:sesame@db/shop",
            f"{prefix}_REDIS_URL": "http://cache",
            f"{prefix}_TREADS": "8",
            "CHECKOUT_SECRET_KEY": "too short",
        }

        done = _run(module, "serve", **mistakes)

        assert done.returncode == 2
        assert done.stdout == ""
        for variable in mistakes:
            assert re.search(rf"^{variable}: ", done.stderr, re.MULTILINE), variable
        assert f"did you mean {prefix}_THREADS?" in done.stderr
        assert f"set {prefix}_TLS_CERT_FILE" in done.stderr
        assert "sesame" not in done.stderr
        assert "too short" not in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.requirement("FR-129")
    @pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
    def test_help_tells_every_variable(self, module: str, arguments: list[str]) -> None:
        done = _run(module, *arguments)

        assert done.returncode == 0
        for name in ("HOST", "PORT", "DATABASE_URL", "REDIS_URL", "INSECURE"):
            assert f"{PREFIXES[module]}_{name}" in done.stdout
        assert "CHECKOUT_SECRET_KEY_FILE" in done.stdout
        assert ("tok_visa" in done.stdout) == (module == "payment_service")


class TestStart:
    @both_services
    @pytest.mark.requirement("FR-128")
    def test_names_a_port_that_is_taken(
        self, module: str, checkout: RealCheckout, folder: Path
    ) -> None:
        address = checkout.pair.order.address
        port = address.rpartition(":")[2]

        variables = {f"{PREFIXES[module]}_PORT": port, "CHECKOUT_DATA_DIR": str(folder)}
        done = _run(module, "serve", **variables)

        assert done.returncode == 1
        # Above it stands what grpc itself says.
        ours = done.stderr.splitlines()[-1]
        assert ours == f"cannot listen on {address}: the port is taken by another process"
        assert "Traceback" not in done.stderr

    @both_services
    @pytest.mark.requirement("FR-253")
    def test_names_the_setting_of_a_metrics_port_that_is_taken(
        self, module: str, folder: Path
    ) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            done = _run(
                module,
                "serve",
                CHECKOUT_DATA_DIR=str(folder),
                **{f"{PREFIXES[module]}_PORT": "0", f"{PREFIXES[module]}_METRICS_PORT": str(port)},
            )

        assert done.returncode == 1
        assert done.stderr == (
            f"cannot listen on 127.0.0.1:{port}: the port is taken by another process;"
            f" {PREFIXES[module]}_METRICS_PORT chooses another\n"
        )

    @pytest.mark.requirement("FR-130")
    def test_makes_a_secret_that_only_its_owner_can_read(self, checkout: RealCheckout) -> None:
        secret = checkout.folder / "secret.key"

        assert stat.S_IMODE(secret.stat().st_mode) == 0o600

    @pytest.mark.requirement("FR-130", "FR-301")
    def test_threat_01_listens_beyond_loopback_only_with_credentials(self, folder: Path) -> None:
        everywhere = {"ORDER_SERVICE_HOST": "0.0.0.0"}  # noqa: S104 - that is the test
        pair = Pair(folder, {**everywhere, "ORDER_SERVICE_INSECURE": "true"})
        try:
            pair.order.start()
            assert pair.order.wait(30) == 2
            assert "ORDER_SERVICE_HOST: listens beyond loopback" in pair.order.log()

            secured = Pair(folder, everywhere, secured=True)
            secured.order.start()
            try:
                secured.order.wait_until_serving()
            finally:
                secured.stop()
        finally:
            pair.stop()


@both_services
@pytest.mark.requirement("FR-131")
class TestPostgres:
    @pytest.fixture
    def variables(self, module: str, postgres_url: str, folder: Path) -> dict[str, str]:
        """Settings for an empty database."""
        return {
            f"{PREFIXES[module]}_DATABASE_URL": postgres_url,
            "CHECKOUT_SECRET_KEY": SECRET,
            "CHECKOUT_DATA_DIR": str(folder),
        }

    def test_is_migrated_first_and_served_then(
        self, module: str, variables: dict[str, str], folder: Path
    ) -> None:
        refusal = _run(module, "serve", **variables)
        assert refusal.returncode == 1
        assert refusal.stderr.startswith("the database is not migrated; first run: python -m")
        assert f"{module} migrate" in refusal.stderr

        for _ in ("once", "again"):
            done = _run(module, "migrate", **variables)
            assert (done.returncode, done.stderr) == (0, "")

        pair = Pair(folder, variables)
        process = pair.order if module == "order_service" else pair.payment
        try:
            process.start()
            process.wait_until_serving()
        finally:
            pair.stop()
        assert process.wait() == 0

    def test_needs_a_secret_that_is_given(self, module: str, variables: dict[str, str]) -> None:
        del variables["CHECKOUT_SECRET_KEY"]

        done = _run(module, "serve", **variables)

        assert done.returncode == 2
        assert "CHECKOUT_SECRET_KEY: is required with PostgreSQL" in done.stderr

    def test_that_does_not_answer_is_told_without_its_password(self, module: str) -> None:
        variables = {
            f"{PREFIXES[module]}_DATABASE_URL": "postgresql://shop:sesame@127.0.0.1:1/shop",
            "CHECKOUT_SECRET_KEY": SECRET,
        }

        done = _run(module, "serve", **variables)

        assert done.returncode == 1
        assert done.stderr == f"{PREFIXES[module]}_DATABASE_URL: the database does not answer\n"


def _run(module: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**without_settings(os.environ), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

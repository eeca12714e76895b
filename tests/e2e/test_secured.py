"""Both services as real processes with credentials: the demo, and what makes the credentials."""

import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from deploy import credentials
from deploy.demo import TRY_IT_SECURED
from deploy.processes import ROOT, Pair
from deploy.transcript import play
from service_kit.clock import SystemClock
from service_kit.credentials.token_keys import read_token_keys
from service_kit.credentials.tokens import TokenRefused, TokenVerifier

pytestmark = pytest.mark.requirement("FR-314")


def made(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.credentials", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


class TestTheDemo:
    def test_passes_over_mtls_and_with_tokens(self) -> None:
        done = subprocess.run(
            [sys.executable, "deploy/demo.py", "--secured"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "over SQLite, mTLS and tokens, started" in done.stdout
        assert "✗" not in done.stdout
        assert re.search(r"^✓ 16 steps, everything as expected", done.stdout, re.MULTILINE)
        assert all(line in done.stdout for line in TRY_IT_SECURED)

    def test_the_lines_to_paste_work(self, tmp_path: Path) -> None:
        pair = Pair(tmp_path, secured=True)
        pasted = "\n".join(TRY_IT_SECURED[3:])
        places = {
            "127.0.0.1:50051": pair.order.address,
            "customer alice": "customer alice --folder .data/credentials",
            ".data/credentials": str(tmp_path / "credentials"),
        }
        try:
            pair.start()
            [output] = play([f"{pasted}\n"], folder=ROOT, addresses=places)
        finally:
            pair.stop()
        assert '"customer_id": "alice"' in output

    @pytest.mark.requirement("FR-302")
    def test_threat_01_its_services_answer_nobody_in_plaintext(self, folder: Path) -> None:
        pair = Pair(folder, secured=True)
        try:
            pair.start()
            for process in pair.processes:
                with grpc.insecure_channel(process.address) as channel:
                    check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
                    with pytest.raises(grpc.RpcError) as refused:
                        check(b"", timeout=20)
                    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            pair.stop()


class TestTheCommand:
    def test_makes_everything_and_says_how_to_use_it(self, folder: Path) -> None:
        done = made("certs", "--folder", str(folder / "new"))

        assert done.returncode == 0
        assert f"{folder / 'new' / credentials.SETTINGS}" in done.stdout
        assert done.stderr == ""

    @pytest.mark.requirement("FR-312")
    def test_threat_16_keeps_others_out_of_the_folders_that_it_makes(self, folder: Path) -> None:
        data = folder / "data"
        assert made("certs", "--folder", str(data / "credentials")).returncode == 0
        for made_folder in (data, data / "credentials"):
            assert stat.S_IMODE(made_folder.stat().st_mode) == 0o700

    @pytest.mark.requirement("FR-312")
    def test_threat_16_keeps_keys_from_others(self, folder: Path) -> None:
        # A folder that was open before, and an old key in it that everybody may read.
        folder.chmod(0o755)
        (folder / credentials.SIGNING_KEY).write_text("old")
        assert made("certs", "--folder", str(folder)).returncode == 0

        keys = sorted(folder.glob("*.key"))
        assert len(keys) == 5
        assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}

    def test_signs_tokens_that_verify_with_the_key_set_beside_it(self, folder: Path) -> None:
        credentials.make(folder)
        done = made("token", "operations", "olga", "--folder", str(folder))
        token = done.stdout.strip()

        keys = read_token_keys(folder / credentials.KEY_SET)
        for audience in ("order-service", "payment-service"):
            verifier = TokenVerifier(
                keys, issuer="checkout-demo", audience=audience, clock=SystemClock()
            )
            assert verifier.verify(token).id == "olga"
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["exp"] - claims["nbf"] == 3600

    def test_counts_no_more_once_everything_is_made_anew(self, folder: Path) -> None:
        credentials.make(folder)
        token = made("token", "customer", "alice", "--folder", str(folder)).stdout.strip()
        credentials.make(folder)

        keys = read_token_keys(folder / credentials.KEY_SET)
        verifier = TokenVerifier(
            keys, issuer="checkout-demo", audience="order-service", clock=SystemClock()
        )
        with pytest.raises(TokenRefused):
            verifier.verify(token)

    def test_says_what_to_do_first(self, folder: Path) -> None:
        done = made("token", "customer", "alice", "--folder", str(folder))

        assert done.returncode == 1
        assert "first run: make certs" in done.stderr
        assert "Traceback" not in done.stderr

    def test_writes_settings_that_a_shell_reads(self, folder: Path) -> None:
        """In a folder with a space in its name."""
        credentials.make(folder)
        script = f'. "{folder / credentials.SETTINGS}" && printf %s "$ORDER_SERVICE_TLS_CERT_FILE"'
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)

        assert Path(done.stdout).samefile(folder / "order-service.pem")

"""docs/grpcurl.md: its commands, pasted one after the other, do what it shows."""

import subprocess
from pathlib import Path

import pytest

from deploy.readme import GRPCURL, grpcurl_outputs
from deploy.transcript import commands_of, masked, outputs_of, with_outputs
from tests.client import ORDER_SERVICE_NAME, PAYMENT_SERVICE_NAME
from tests.e2e.real_checkout import RealCheckout, running


class TestPage:
    def test_shows_what_its_commands_put_out(self, folder: Path) -> None:
        page = GRPCURL.read_text("utf-8")
        with running(folder, {}) as checkout:
            outputs = grpcurl_outputs(page, checkout.pair)

        shown = outputs_of(page)
        assert [
            (commands, masked(output))
            for commands, output, expected in zip(commands_of(page), outputs, shown, strict=True)
            if expected is not None
        ] == [
            (commands, masked(expected))
            for commands, expected in zip(commands_of(page), shown, strict=True)
            if expected is not None
        ]
        assert with_outputs(page, outputs) == page, "an id is not the one that it was before"
        # What shows nothing puts out nothing.
        assert [output for output, e in zip(outputs, shown, strict=True) if e is None] == ["\n"]

    def test_uses_only_tools_that_everybody_has(self) -> None:
        commands = "".join(commands_of(GRPCURL.read_text("utf-8")))

        assert "jq" not in commands
        assert "make serve" in GRPCURL.read_text("utf-8")


@pytest.mark.requirement("FR-127")
class TestHealth:
    @pytest.mark.parametrize("service", ["", ORDER_SERVICE_NAME, PAYMENT_SERVICE_NAME])
    def test_is_told_to_grpcurl(self, checkout: RealCheckout, service: str) -> None:
        process = checkout.pair.payment if "Payment" in service else checkout.pair.order
        told = _grpcurl(
            "-d", f'{{"service": "{service}"}}', process.address, "grpc.health.v1.Health/Check"
        )

        assert '"status": "SERVING"' in told


def _grpcurl(*arguments: str) -> str:
    done = subprocess.run(
        [".venv/bin/grpcurl", "-plaintext", *arguments],
        cwd=GRPCURL.parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout

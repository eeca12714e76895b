"""The demo: what it shows, what it leaves behind, and how it fails."""

import io
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from checkout.money.v1 import money_pb2
from deploy.demo import TRY_IT, run
from deploy.processes import MODULES, ROOT, Pair
from deploy.screen import Screen, amount, wants_colour
from deploy.stage import Stage, Unexpected
from deploy.transcript import play
from tests.builders import money
from tests.e2e.real_checkout import RealCheckout
from tests.waiting import eventually

COMMAND = [sys.executable, "deploy/demo.py"]


class TestDemo:
    def test_shows_every_step_in_order(self, demo_output: str) -> None:
        numbers = re.findall(r"^ ?(\d+)  \S", demo_output, re.MULTILINE)

        assert numbers == [str(number) for number in range(1, 15)]
        assert "✗" not in demo_output
        assert re.search(
            r"^✓ 14 steps, everything as expected, in \d+\.\d s$", demo_output, re.MULTILINE
        )

    def test_writes_no_colour_where_nobody_watches(self, demo_output: str) -> None:
        assert "\x1b" not in demo_output

    @pytest.mark.parametrize("moment", MODULES)
    def test_ends_what_it_started_when_it_is_ended(self, folder: Path, moment: str) -> None:
        """Also in the very moment in which it starts the first or the second service."""
        variables = {**os.environ, "TMPDIR": str(folder)}
        with subprocess.Popen(COMMAND, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL) as demo:
            eventually(lambda: list(folder.glob(f"*/{moment}.log")))
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(30) == 128 + signal.SIGTERM

        assert list(folder.iterdir()) == []
        assert not _processes_that_know(folder)

    def test_the_lines_to_paste_work(self, demo_output: str, checkout: RealCheckout) -> None:
        pasted = "\n".join(TRY_IT[1:])
        assert all(line in demo_output for line in TRY_IT)

        [output] = play(
            [f"{pasted}\n"], folder=ROOT, addresses={"127.0.0.1:50051": checkout.pair.order.address}
        )

        assert "checkout.order.v1.OrderService" in output
        assert '"status": "ORDER_STATUS_CREATED"' in output
        assert '"event_type": "order_created"' in output
        assert "ERROR" not in output


class TestFailure:
    def test_tells_what_was_expected_and_what_came_with_the_logs(self) -> None:
        def story(stage: Stage) -> None:
            stage.screen.step("A step that goes wrong")
            stage.place()

        output = io.StringIO()
        code = run(Screen(output, colour=False), story)

        assert code == 1
        text = output.getvalue()
        assert "✗ CreateOrder is answered" in text
        assert re.search(r"expected +OK", text)
        assert re.search(r"came +INVALID_ARGUMENT VALIDATION_FAILED items", text)
        for module in MODULES:
            _, found, log = text.partition(f"The last lines of the {module} log")
            assert found
            assert '"event":"listening"' in log

    def test_tells_why_a_service_does_not_start(self) -> None:
        output = io.StringIO()
        code = run(Screen(output, colour=False), variables={"PAYMENT_SERVICE_THREADS": "no"})

        assert code == 1
        assert "payment_service ended with exit code 2" in output.getvalue()
        assert "PAYMENT_SERVICE_THREADS" in output.getvalue()

    def test_an_expectation_is_shown_only_if_it_is_met(self, folder: Path) -> None:
        output = io.StringIO()
        with Stage(Pair(folder), Screen(output, colour=True)) as stage:
            stage.expect("two is two", 2, 2)
            with pytest.raises(Unexpected) as unexpected:
                stage.expect("two is one", 1, 2)

        assert output.getvalue() == "    \x1b[32m✓\x1b[0m two is two\n"
        assert (unexpected.value.expected, unexpected.value.came) == (1, 2)


class TestScreen:
    @pytest.mark.parametrize(
        ("terminal", "variables", "expected"),
        [
            (True, {}, True),
            (False, {}, False),
            (True, {"TERM": "dumb"}, False),
            (True, {"NO_COLOR": "1"}, False),
            (True, {"NO_COLOR": ""}, True),
            (False, {"FORCE_COLOR": "1"}, True),
            (True, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ],
    )
    def test_is_in_colour_for_terminals_and_as_asked(
        self, *, terminal: bool, variables: dict[str, str], expected: bool
    ) -> None:
        stream = io.StringIO()
        stream.isatty = lambda: terminal  # type: ignore[method-assign]

        assert wants_colour(stream, variables) is expected

    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            (money(1250), "12.50 EUR"),
            (money(5), "0.05 EUR"),
            (money(0), "0.00 EUR"),
            (money(-1250), "-12.50 EUR"),
            (money(500, "JPY"), "500 JPY"),
            (money(1, "KWD"), "0.001 KWD"),
        ],
    )
    def test_writes_amounts_with_their_currency_exponent(
        self, given: money_pb2.Money, shown: str
    ) -> None:
        assert amount(given) == shown


def _processes_that_know(folder: Path) -> list[str]:
    """List the processes that have the folder in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # Others end meanwhile, or are not ours to look into.
        with suppress(OSError):
            if os.fsencode(folder) in (process / "environ").read_bytes():
                found.append(process.name)
    return found

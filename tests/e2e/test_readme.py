"""README.md shows what its commands really do."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from deploy.processes import ROOT
from deploy.readme import README, demo_section, section, settings_section, snippet_section
from deploy.transcript import commands_of, masked
from tests.e2e.real_checkout import RealCheckout

PAGE = README.read_text("utf-8")


class TestFirstScreen:
    def test_begins_with_one_sentence_and_two_commands(self) -> None:
        title, sentence, commands = PAGE.split("\n\n")[:3]

        assert title.startswith("# ")
        assert sentence.count(". ") == 0
        assert sentence.endswith(".")
        assert re.findall(r"^make (\w+)", commands, re.MULTILINE) == ["demo", "test"]

    def test_shows_what_make_demo_puts_out(self, demo_output: str) -> None:
        assert masked(section(PAGE, "make demo")) == masked(demo_section(demo_output))

    def test_shows_how_make_test_ends(self) -> None:
        """The numbers are those of the run that was recorded; its form is that of every run."""
        assert re.fullmatch(
            r"```console\n\$ make test\n…\n"
            r"Required test coverage of 95(\.0)?% reached\. Total coverage: \d+(\.\d+)?%\n"
            r"(=+ \d+ passed(, \d+ \w+)* in [\d.]+s( \([\d:]+\))? =+\n){2}```\n",
            section(PAGE, "make test"),
        )


class TestSettings:
    @pytest.mark.requirement("FR-129")
    def test_are_those_of_the_services(self) -> None:
        assert section(PAGE, "settings") == settings_section()


class TestPythonClient:
    def test_runs_as_it_stands_and_prints_what_is_shown(self, checkout: RealCheckout) -> None:
        fresh = snippet_section(PAGE, checkout.pair)

        assert masked(section(PAGE, "buy.py")) == masked(fresh)


class TestContractGate:
    def test_commands_pass_for_the_contract_they_were_copied_from(self, folder: Path) -> None:
        [gate] = [block for block in commands_of(PAGE) if "service_kit.contract" in block]
        copy = folder / "their-copy.binpb"
        build = ["buf", "build", "--exclude-source-info", "-o", str(copy)]
        variables = {**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}
        subprocess.run(build, cwd=ROOT, env=variables, check=True)

        done = subprocess.run(
            ["bash", "-euc", gate.replace("their-copy.binpb", f"'{copy}'")],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stdout + done.stderr


class TestLinks:
    @pytest.mark.parametrize("page", ["README.md", "docs/grpcurl.md"])
    def test_lead_to_files_that_exist(self, page: str) -> None:
        path = ROOT / page
        targets = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8"))

        assert targets
        assert [target for target in targets if not (path.parent / target).exists()] == []

    def test_make_knows_every_target_that_is_named(self) -> None:
        makefile = (ROOT / "Makefile").read_text("utf-8")
        named = set(re.findall(r"`make ([\w-]+)", PAGE))

        assert named
        assert {name for name in named if f"\n{name}:" not in makefile} == set()

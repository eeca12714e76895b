"""Our own rules for semgrep find what they are for, and leave alone what is right.

Each rule has a fixture of its name, in which a comment before a line says what becomes of it:
`ruleid: NAME` is found, `ok: NAME` is not.
"""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from security import house_rules
from security.house_rules import FIXTURES, ROOT, RULES, Finding, unseen

NAMES = sorted(path.stem for path in RULES.glob("*.yaml"))
PRODUCT = (
    "order_service",
    "payment_service",
    "service_kit",
    "deploy",
    "bench",
    "specs",
    "security",
)

needs_semgrep = pytest.mark.skipif(
    not house_rules.is_set_up(), reason="make security sets semgrep up"
)


def fixture_of(name: str) -> Path:
    """Return where a rule is tried."""
    return FIXTURES / f"{name}.py"


def marked(name: str, mark: str) -> set[int]:
    """Number the lines of a fixture that such a comment stands before."""
    lines = fixture_of(name).read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 2) if line.strip() == f"# {mark}: {name}"}


@cache
def found() -> tuple[Finding, ...]:
    """Scan every fixture once."""
    files = sorted(path.relative_to(ROOT).as_posix() for path in FIXTURES.glob("*.py"))
    scan = house_rules.scan(files, excuses=False)
    assert scan.problems == ()
    assert sorted(scan.files) == files
    return scan.findings


def excused() -> list[str]:
    """Name the rules that the code asks to be excused from, once for each place."""
    excuse = re.compile(r"# nosemgrep(?:: (\S+))?")
    return [
        rule
        for folder in PRODUCT
        for file in sorted((ROOT / folder).rglob("*.py"))
        if FIXTURES not in file.parents
        for rule in excuse.findall(file.read_text("utf-8"))
    ]


def without_a_network() -> list[str]:
    """Return what runs a command without a network; empty if nothing here can."""
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    try:
        can = subprocess.run([*alone, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return []
    return alone if can.returncode == 0 else []


def test_there_are_at_least_14_rules_and_each_has_a_fixture() -> None:
    assert len(NAMES) >= 14
    assert sorted(path.stem for path in FIXTURES.glob("*.py")) == NAMES


@pytest.mark.requirement("FR-372")
@pytest.mark.parametrize("name", NAMES)
class TestEveryRule:
    def test_is_named_as_its_file(self, name: str) -> None:
        text = (RULES / f"{name}.yaml").read_text("utf-8")
        assert re.findall(r"^ *- id: (.*)$", text, re.MULTILINE) == [name]

    def test_is_of_high_severity_and_names_its_threat(self, name: str) -> None:
        text = (RULES / f"{name}.yaml").read_text("utf-8")
        assert re.search(r"^    severity: (HIGH|CRITICAL)$", text, re.MULTILINE)
        assert re.search(r"^    metadata: \{threat: ([1-9]|1\d|2[0-2])\}$", text, re.MULTILINE)

    def test_has_lines_to_find_and_lines_to_leave_alone(self, name: str) -> None:
        assert marked(name, "ruleid")
        assert marked(name, "ok")

    @needs_semgrep
    def test_finds_exactly_the_lines_that_are_wrong(self, name: str) -> None:
        path = fixture_of(name).relative_to(ROOT).as_posix()
        lines = {f.line for f in found() if f.rule == name and f.path == path}
        assert lines == marked(name, "ruleid")


@pytest.mark.requirement("FR-372")
class TestTheScan:
    @needs_semgrep
    def test_fails_on_a_finding_and_names_its_line(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = fixture_of("shell").relative_to(ROOT).as_posix()
        assert house_rules.main([path]) == 1
        assert f"{path}:7: critical: shell\n" in capsys.readouterr().out

    @needs_semgrep
    @pytest.mark.requirement("FR-373")
    def test_needs_no_network(self) -> None:
        alone = without_a_network()
        if not alone:
            pytest.skip("this system lets nobody have a network of their own")
        path = fixture_of("shell").relative_to(ROOT).as_posix()
        done = subprocess.run(
            [*alone, sys.executable, "-m", "security.house_rules", path],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.stdout.endswith(f"{len(NAMES)} rules, 1 files, 4 findings\n")
        assert done.stderr == ""

    def test_tells_which_files_it_has_not_looked_at(self) -> None:
        missing = unseen(["security", "tests/security"], frozenset({"security/__init__.py"}))
        assert "security/house_rules.py" in missing
        assert "tests/security/test_house_rules.py" in missing
        assert "security/__init__.py" not in missing
        assert not [name for name in missing if name.startswith("security/fixtures/")]


@pytest.mark.requirement("FR-371")
class TestAnExcuse:
    def test_names_a_rule_that_there_is(self) -> None:
        """The word alone would silence every rule on its line."""
        assert set(excused()) <= set(NAMES)

    def test_is_rare(self) -> None:
        assert len(excused()) <= 20

    def test_for_listening_without_tls_is_one(self) -> None:
        assert excused().count("plaintext-listener") == 1

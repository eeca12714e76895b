"""docs/security.md promises nothing that no test shows, and names no test that there is not."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security.md"
THREATS = 22
NOTHING = "—"

_NAMED = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")
_OF_A_THREAT = re.compile(r"^ *def (test_threat_(\d\d)_\w+)", re.MULTILINE)


def rows() -> dict[int, list[str]]:
    """Read the table: the cells of each threat, by its number."""
    lines = PAGE.read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {int(row[0]): row[1:] for row in cells if row[0].isdigit()}


def named_tests(threat: int) -> list[str]:
    """List the tests that show a threat's defence, as pytest takes them."""
    return ["::".join(named) for named in _NAMED.findall(rows()[threat][2])]


@cache
def named_in(file: Path) -> frozenset[str]:
    """Name the tests of a file: `name`, or `Class::name`."""
    names: set[str] = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            inner = (part for part in node.body if isinstance(part, ast.FunctionDef))
            names |= {f"{node.name}::{part.name}" for part in inner}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return frozenset(names)


@pytest.mark.requirement("FR-377")
class TestTheTable:
    def test_has_every_threat_with_its_defence(self) -> None:
        table = rows()
        assert sorted(table) == list(range(1, THREATS + 1))
        for number, row in table.items():
            assert len(row) == 4, number
            threat, defence, shown_by, _ = row
            assert threat, number
            assert defence, number
            assert shown_by == NOTHING or _NAMED.search(shown_by), number

    @pytest.mark.parametrize("number", range(1, THREATS + 1))
    def test_names_tests_that_there_are(self, number: int) -> None:
        shown_by = rows()[number][2]
        if shown_by == NOTHING:
            return
        for cell in shown_by.split("<br>"):
            named = _NAMED.fullmatch(cell)
            assert named, f"{cell} names no test"
            path, name = named.groups()
            assert (ROOT / path).is_file(), path
            assert name in named_in(ROOT / path), cell

    @pytest.mark.parametrize("number", range(1, THREATS + 1))
    def test_names_a_test_where_there_is_one(self, number: int) -> None:
        """A test named after a threat means that its row need not be empty any more."""
        if rows()[number][2] != NOTHING:
            return
        found = {
            f"{file.relative_to(ROOT).as_posix()}: {name}"
            for file in sorted((ROOT / "tests").rglob("test_*.py"))
            for name, threat in _OF_A_THREAT.findall(file.read_text("utf-8"))
            if int(threat) == number
        }
        assert not found, f"docs/security.md has no test for threat {number}"

    def test_says_what_is_missing_where_nothing_is_shown(self) -> None:
        for number, (_, _, shown_by, missing) in rows().items():
            assert shown_by != NOTHING or missing, number


@pytest.mark.requirement("FR-378")
class TestReporting:
    def test_is_explained_with_what_to_expect(self) -> None:
        page = (ROOT / "SECURITY.md").read_text("utf-8")
        for heading in ("Reporting a problem", "What to expect", "Supported versions"):
            assert f"\n## {heading}\n" in page

    def test_names_the_version_that_is_repaired(self) -> None:
        project = (ROOT / "pyproject.toml").read_text("utf-8")
        [minor] = re.findall(r'^version = "(\d+\.\d+)\.\d+"$', project, re.MULTILINE)
        assert f"| {minor}.x | yes |" in (ROOT / "SECURITY.md").read_text("utf-8")

    @pytest.mark.parametrize("page", ["SECURITY.md", "docs/security.md"])
    def test_leads_to_pages_that_there_are(self, page: str) -> None:
        file = ROOT / page
        links = re.findall(r"\]\(([^)#]+)\)", file.read_text("utf-8"))
        assert links
        assert [link for link in links if not (file.parent / link).exists()] == []

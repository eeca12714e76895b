"""specs/check.py finds a requirement that nobody proves, and everything else it promises to."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SPEC = "# A spec\n\n### FR-901 It adds\n\n### FR-902 It subtracts\n"
TASKS = [f"- [ ] T{number:03} [FR-901, FR-902] Do it." for number in range(1, 16)]
TESTS = """\
import pytest

@pytest.mark.requirement("FR-901", "FR-902")
def test_sums(): ...
"""


def check(root: Path) -> tuple[int, list[str]]:
    """Run the check on a project; return its exit code and its lines."""
    done = subprocess.run(
        [sys.executable, ROOT / "specs" / "check.py", root],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in which everything agrees."""
    (tmp_path / "specs" / "009-sums").mkdir(parents=True)
    (tmp_path / "specs" / "009-sums" / "spec.md").write_text(SPEC)
    (tmp_path / "specs" / "009-sums" / "tasks.md").write_text("\n".join(TASKS))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_sums.py").write_text(TESTS)
    return tmp_path


def change(file: Path, old: str, new: str) -> None:
    """Replace some text that must be there."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_project_in_which_everything_agrees_passes(project: Path) -> None:
    assert check(project) == (0, ["Every requirement has its tasks and its tests."])


def test_a_requirement_without_a_test_is_named(project: Path) -> None:
    change(project / "tests" / "test_sums.py", '"FR-901", ', "")
    assert check(project) == (1, ["specs/009-sums/spec.md: no test is for FR-901"])


def test_a_marker_in_a_comment_or_a_string_is_none(project: Path) -> None:
    (project / "tests" / "test_sums.py").write_text(
        '"""@pytest.mark.requirement("FR-901")"""\n# @pytest.mark.requirement("FR-902")\n'
    )
    code, lines = check(project)
    assert code == 1
    assert len(lines) == 2


def test_markers_of_a_module_a_class_and_a_parameter_count(project: Path) -> None:
    (project / "tests" / "test_sums.py").write_text(
        "import pytest\n"
        'pytestmark = pytest.mark.requirement("FR-901")\n'
        'P = pytest.param(1, marks=pytest.mark.requirement("FR-902"))\n'
    )
    assert check(project)[0] == 0


def test_a_file_that_pytest_does_not_collect_proves_nothing(project: Path) -> None:
    (project / "tests" / "test_sums.py").rename(project / "tests" / "sums.py")
    assert check(project)[0] == 1


def test_a_marker_that_names_no_requirement_is_reported(project: Path) -> None:
    change(project / "tests" / "test_sums.py", '"FR-902"', '"FR-902", "FR-903"')
    assert check(project) == (1, ["tests/test_sums.py:3: FR-903 is in no spec.md"])


def test_a_marker_must_be_readable_without_running_it(project: Path) -> None:
    change(project / "tests" / "test_sums.py", '"FR-902"', '"FR-902", SOMETHING')
    assert check(project) == (
        1,
        ["tests/test_sums.py:3: a requirement must be written as a string"],
    )


def test_a_requirement_is_defined_once(project: Path) -> None:
    change(project / "specs" / "009-sums" / "spec.md", "FR-902", "FR-901")
    code, lines = check(project)
    assert code == 1
    assert "specs/009-sums/spec.md: FR-901 is defined twice" in lines


@pytest.mark.parametrize(
    ("old", "new", "reported"),
    [
        ("[FR-901, FR-902]", "[FR-901]", "no task is for FR-902"),
        ("T001 [FR-901", "T001 [FR-909", "FR-909 is in no spec.md"),
        ("T002", "T001", "T001 is used twice"),
        ("T002", "T2", "T2 is no task id like T001"),
        ("T001 [FR-901", "T001 (after T003) [FR-901", "T001 comes before T003, which it needs"),
        ("- [ ] T015", "", "has 14 tasks, fewer than 15"),
        (
            "- [ ] T001 [FR-901, FR-902]",
            "- [x] T001 [FR-901, FR-902] `src/sums.py`",
            "T001 is done, but there is no src/sums.py",
        ),
    ],
)
def test_tasks_are_checked(project: Path, old: str, new: str, reported: str) -> None:
    change(project / "specs" / "009-sums" / "tasks.md", old, new)
    code, lines = check(project)
    assert code == 1
    assert f"specs/009-sums/tasks.md: {reported}" in lines


def test_missing_tasks_and_missing_specs_are_reported(project: Path) -> None:
    (project / "specs" / "009-sums" / "tasks.md").unlink()
    assert check(project) == (1, ["specs/009-sums/tasks.md: is missing"])
    shutil.rmtree(project / "specs")
    assert check(project) == (1, ["specs/: there is no spec.md"])


def test_a_marker_taken_out_of_this_project_is_missed(tmp_path: Path) -> None:
    """The specs and tests as they are, in a copy, without any marker of one requirement."""
    python_only = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in ("specs", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=python_only)
    for entry in ROOT.iterdir():
        if entry.name not in {"specs", "tests"}:
            (tmp_path / entry.name).symlink_to(entry)
    missing = "specs/002-order/spec.md: no test is for FR-201"
    assert missing not in check(tmp_path)[1]
    for file in (tmp_path / "tests").rglob("test_*.py"):
        file.write_text(re.sub(r'"FR-201",? ?', "", file.read_text("utf-8")), "utf-8")
    code, lines = check(tmp_path)
    assert code == 1
    assert missing in lines

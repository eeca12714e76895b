"""Check that every requirement is planned and tested: spec, tasks and tests agree.

A requirement is a heading `### FR-nnn …` in a folder's spec.md. A task is a line
`- [x] Tnnn [P] [FR-nnn] …` in the tasks.md beside it. A test names what it proves with
`@pytest.mark.requirement("FR-nnn")`. The test files are parsed and never imported.
"""

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

TASKS_MIN: Final = 15

_DEFINED: Final = re.compile(r"^### (FR-\d+)\b", re.MULTILINE)
_NAMED: Final = re.compile(r"\bFR-\d+\b")
_TASK: Final = re.compile(
    r"^- \[(?P<done>[ x])\] (?P<id>\S+) (?P<text>.*(?:\n  .*)*)", re.MULTILINE
)
_TASK_ID: Final = re.compile(r"T\d{3}")
_AFTER: Final = re.compile(r"\(after ([^)]*)\)")
_PATH: Final = re.compile(r"`([\w.-]+/[\w./*-]*)`")


def problems(root: Path) -> list[str]:
    """List what does not agree in the project at `root`, one sentence each."""
    specs = sorted(root.glob("specs/*/spec.md"))
    if not specs:
        return ["specs/: there is no spec.md"]
    found: list[str] = []
    defined: dict[str, Path] = {}
    for spec in specs:
        for requirement in _DEFINED.findall(spec.read_text("utf-8")):
            if requirement in defined:
                found.append(f"{_shown(spec, root)}: {requirement} is defined twice")
            defined.setdefault(requirement, spec)
    for spec in specs:
        found += _tasks(spec.with_name("tasks.md"), root, defined)
    return [*found, *_markers(root, defined)]


def _tasks(file: Path, root: Path, defined: dict[str, Path]) -> Iterator[str]:
    where = _shown(file, root)
    if not file.exists():
        yield f"{where}: is missing"
        return
    text = file.read_text("utf-8")
    seen: list[str] = []
    for task in _TASK.finditer(text):
        yield from (f"{where}: {problem}" for problem in _task(task, seen, root))
        seen.append(task["id"])
    if len(seen) < TASKS_MIN:
        yield f"{where}: has {len(seen)} tasks, fewer than {TASKS_MIN}"
    planned = {name for task in _TASK.finditer(text) for name in _NAMED.findall(task["text"])}
    for requirement in sorted(planned - set(defined)):
        yield f"{where}: {requirement} is in no spec.md"
    for requirement, spec in defined.items():
        if spec.parent == file.parent and requirement not in planned:
            yield f"{where}: no task is for {requirement}"


def _task(task: re.Match[str], seen: Sequence[str], root: Path) -> Iterator[str]:
    name, text = task["id"], task["text"]
    if not _TASK_ID.fullmatch(name):
        yield f"{name} is no task id like T001"
    if name in seen:
        yield f"{name} is used twice"
    for needed in _TASK_ID.findall(" ".join(_AFTER.findall(text))):
        if needed not in seen:
            yield f"{name} comes before {needed}, which it needs"
    if task["done"] == "x":
        for path in _PATH.findall(text):
            if not any(root.glob(path.rstrip("/"))):
                yield f"{name} is done, but there is no {path}"


def _markers(root: Path, defined: dict[str, Path]) -> Iterator[str]:
    tested: set[str] = set()
    for file in sorted(root.glob("tests/**/test_*.py")):
        for line, requirement in _named_by(file):
            where = f"{_shown(file, root)}:{line}"
            if requirement is None:
                yield f"{where}: a requirement must be written as a string"
            elif requirement in defined:
                tested.add(requirement)
            else:
                yield f"{where}: {requirement} is in no spec.md"
    for requirement, spec in defined.items():
        if requirement not in tested:
            yield f"{_shown(spec, root)}: no test is for {requirement}"


def _named_by(file: Path) -> Iterator[tuple[int, str | None]]:
    """List what the markers of a test file name, with the line; None for what is no string."""
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if not isinstance(node, ast.Call) or not _is_marker(node.func):
            continue
        for argument in node.args:
            literal = isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            yield argument.lineno, str(ast.literal_eval(argument)) if literal else None


def _is_marker(function: ast.expr) -> bool:
    return ast.unparse(function) in {"pytest.mark.requirement", "mark.requirement"}


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def main(arguments: Sequence[str]) -> int:
    """Check the project around this file, or the one given. Return 1 if something is wrong."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    found = problems(root)
    for problem in found:
        print(problem)
    if not found:
        print("Every requirement has its tasks and its tests.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""python -m security.house_rules FOLDER…: what semgrep finds by the rules of this project.

The rules are `security/rules/*.yaml`, and nothing is asked of the network. Semgrep has an
environment of its own, which `make security` sets up. Exit code 1 if it finds something, or
has not looked at every Python file.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
ENVIRONMENT: Final = ROOT / ".venv-security"
RULES: Final = ROOT / "security" / "rules"
# Each has what its rule is to find, and what it must leave alone.
FIXTURES: Final = ROOT / "security" / "fixtures"


@dataclass(frozen=True)
class Finding:
    """Where a rule was broken. The first line of a statement counts."""

    path: str
    line: int
    rule: str
    severity: str
    message: str


@dataclass(frozen=True)
class Scan:
    """What was found, which files were looked at, and what kept semgrep from looking."""

    findings: tuple[Finding, ...]
    files: frozenset[str]
    problems: tuple[str, ...]


def is_set_up() -> bool:
    """Say whether semgrep is there."""
    return (ENVIRONMENT / "bin" / "semgrep").exists()


def scan(targets: Iterable[str], *, excuses: bool = True) -> Scan:
    """Look at folders of this project, or at files.

    `excuses` says whether a `nosemgrep` comment counts. Raises CalledProcessError if semgrep
    cannot say anything at all.
    """
    done = subprocess.run(
        [
            *("semgrep", "scan", "--config", str(RULES), "--json", "--quiet"),
            *("--metrics", "off", "--disable-version-check"),
            # What is not committed yet counts too. `.semgrepignore` says what does not.
            "--no-git-ignore",
            *(() if excuses else ("--disable-nosem",)),
            *targets,
        ],
        cwd=ROOT,
        env=_variables(),
        stdout=subprocess.PIPE,
        check=True,
    )
    told = json.loads(done.stdout)
    return Scan(
        findings=tuple(sorted(map(_finding, told["results"]), key=lambda f: (f.path, f.line))),
        files=frozenset(told["paths"]["scanned"]),
        problems=tuple(str(error.get("message", error)) for error in told["errors"]),
    )


def _variables() -> dict[str, str]:
    programs = str(ENVIRONMENT / "bin")
    return {
        **os.environ,
        # It starts a part of itself by its name.
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", "")]),
        # What it would otherwise leave in the home folder.
        "SEMGREP_SETTINGS_FILE": str(ENVIRONMENT / "semgrep-settings.yml"),
        "SEMGREP_LOG_FILE": str(ENVIRONMENT / "semgrep.log"),
    }


def _finding(result: dict[str, Any]) -> Finding:
    extra = result["extra"]
    return Finding(
        path=result["path"],
        line=result["start"]["line"],
        # Semgrep puts the folder of the rules before their names.
        rule=result["check_id"].rpartition(".")[2],
        severity=extra["severity"],
        message=extra["message"],
    )


def unseen(folders: Iterable[str], seen: frozenset[str]) -> list[str]:
    """List the Python files that were not looked at. Fixtures are there to be wrong."""
    files = (file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    names = {file.relative_to(ROOT).as_posix() for file in files if FIXTURES not in file.parents}
    return sorted(names - seen)


def main(folders: Sequence[str]) -> int:
    """Scan and report. Returns the exit code."""
    result = scan(folders)
    for finding in result.findings:
        print(f"{finding.path}:{finding.line}: {finding.severity.lower()}: {finding.rule}")
        print(f"    {finding.message}")
    left_out = [f"{name} was not looked at" for name in unseen(folders, result.files)]
    for problem in (*result.problems, *left_out):
        print(problem)
    rules = len(list(RULES.glob("*.yaml")))
    print(f"semgrep: {rules} rules, {len(result.files)} files, {len(result.findings)} findings")
    return 1 if result.findings or result.problems or left_out else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The bill of materials names what the services need to run, and nothing else."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from security import sbom

ROOT = Path(__file__).resolve().parents[2]

needs_generator = pytest.mark.skipif(not sbom.is_set_up(), reason="make sbom sets it up")


def project() -> dict[str, Any]:
    """Read what the project says about itself."""
    told: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return told


def component(name: str, version: str = "1") -> dict[str, Any]:
    """Describe a package as the generator does."""
    return {"bom-ref": f"{name}=={version}", "name": name, "version": version, "type": "library"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The real one."""
    return sbom.generate()


@pytest.mark.requirement("FR-376")
class TestWhatIsNeeded:
    def test_has_what_is_asked_for_and_what_that_needs(self) -> None:
        assert {"alembic", "mako", "markupsafe", "sqlalchemy"} <= sbom.needed(["alembic>=1"])

    def test_has_an_extra_that_is_asked_for_and_no_other(self) -> None:
        assert "psycopg-binary" in sbom.needed(["psycopg[binary]"])
        assert "psycopg-binary" not in sbom.needed(["psycopg"])
        assert "pytest" not in sbom.needed(project()["dependencies"])


@pytest.mark.requirement("FR-376")
def test_what_is_not_needed_leaves_no_trace() -> None:
    whole = {
        "metadata": {"component": {"bom-ref": "root"}},
        "components": [component("Mako"), component("MarkupSafe"), component("pytest")],
        "dependencies": [
            {"ref": "root", "dependsOn": ["Mako==1"]},
            {"ref": "Mako==1", "dependsOn": ["MarkupSafe==1", "pytest==1"]},
            {"ref": "MarkupSafe==1"},
            {"ref": "pytest==1", "dependsOn": ["MarkupSafe==1"]},
        ],
    }
    part = sbom.kept(whole, {"mako", "markupsafe"})
    assert [c["name"] for c in part["components"]] == ["Mako", "MarkupSafe"]
    assert part["dependencies"] == [
        {"ref": "root", "dependsOn": ["Mako==1"]},
        {"ref": "Mako==1", "dependsOn": ["MarkupSafe==1"]},
        {"ref": "MarkupSafe==1"},
    ]


@pytest.mark.requirement("FR-376")
@needs_generator
class TestTheDocument:
    def test_describes_this_version_of_the_services(self, document: dict[str, Any]) -> None:
        described = document["metadata"]["component"]
        assert (described["name"], described["version"]) == (
            project()["name"],
            project()["version"],
        )

    def test_has_every_dependency_in_its_locked_version(self, document: dict[str, Any]) -> None:
        lock = (ROOT / "requirements.lock").read_text("utf-8")
        locked = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
        listed = {canonicalize_name(c["name"]): c["version"] for c in document["components"]}
        assert {name: locked[name] for name in listed} == listed
        direct = {re.split(r"[^\w-]", text)[0].lower() for text in project()["dependencies"]}
        assert direct <= set(listed)

    def test_has_no_tool_and_no_test_library(self, document: dict[str, Any]) -> None:
        names = {canonicalize_name(c["name"]) for c in document["components"]}
        assert not names & {"bandit", "mypy", "pytest", "ruff", "semgrep", "uv"}

    def test_points_nowhere_that_it_does_not_describe(self, document: dict[str, Any]) -> None:
        described = {c["bom-ref"] for c in document["components"]}
        root = document["metadata"]["component"]["bom-ref"]
        pointed = {ref for d in document["dependencies"] for ref in d.get("dependsOn", ())}
        assert pointed <= described
        assert {d["ref"] for d in document["dependencies"]} == described | {root}

    def test_would_be_refused_if_it_were_not_of_the_schema(self, document: dict[str, Any]) -> None:
        with pytest.raises(subprocess.CalledProcessError):
            sbom.validate({**document, "components": [{"name": "of no type"}]})

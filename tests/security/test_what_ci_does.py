"""What checks the security of the code is switched on, and stays so."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("order_service", "payment_service", "service_kit")


def ruff() -> dict[str, Any]:
    """Read what ruff is told."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    told: dict[str, Any] = project["tool"]["ruff"]["lint"]
    return told


def recipe(target: str) -> str:
    """Return a target of the Makefile with everything below it."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    found = re.search(rf"^{target}:.*\n(?:\t.*\n)*", makefile, re.MULTILINE)
    assert found, target
    return found[0]


def job(name: str) -> str:
    """Return a job of the public CI."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    found = re.search(rf"^  {name}:\n(?:(?:    .*)?\n)*", workflow, re.MULTILINE)
    assert found, name
    return found[0]


@pytest.mark.requirement("FR-371")
class TestTheSRules:
    def test_are_on_for_the_product(self) -> None:
        assert "S" in ruff()["select"]
        assert [rule for rule in ruff()["ignore"] if re.fullmatch(r"S\d*", rule)] == ["S101"]

    def test_have_no_exception_for_a_folder_of_the_product_but_one(self) -> None:
        excepted = {
            (pattern, rule)
            for pattern, rules in ruff()["per-file-ignores"].items()
            for rule in rules
            if re.fullmatch(r"S\d*", rule) and pattern.startswith(("**", *PRODUCT))
        }
        assert excepted == {("service_kit/contract/*.py", "S603")}


@pytest.mark.requirement("FR-371")
class TestTheChecks:
    def test_that_are_quick_are_made_every_time(self) -> None:
        assert {"lint", "bandit"} <= set(recipe("check").split("##")[0].split())
        assert "--severity-level medium" in recipe("bandit")

    def test_are_all_made_before_a_change_lands(self) -> None:
        assert "security.house_rules $(CODE)" in recipe("security")
        assert "\nmake security\n" in (ROOT / ".ci" / "run").read_text("utf-8")
        assert "make security" in job("security")


@pytest.mark.requirement("FR-375")
def test_threat_22_every_lock_is_asked_about_in_public() -> None:
    asks = recipe("vulnerabilities")
    assert (
        "for lock in requirements.lock security/requirements.lock bench/requirements.lock" in asks
    )
    assert "pip_audit --strict" in asks
    assert "make vulnerabilities" in job("vulnerabilities")

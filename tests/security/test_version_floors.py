"""Nothing older than the repair of a known vulnerability is installed or locked.

The table is what this project knows offline. `make vulnerabilities` asks the public databases,
which know more.
"""

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psycopg
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "security/requirements.lock", "bench/requirements.lock")

_LOCKED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Floor:
    """The first version of a package that a vulnerability is not in."""

    package: str
    version: str
    advisory: str
    what: str

    def __str__(self) -> str:
        """Name the test."""
        return f"{self.package}-{self.advisory}"


FLOORS = (
    Floor("grpcio", "1.53.0", "CVE-2023-1428", "a header ends the process"),
    Floor("grpcio", "1.53.0", "CVE-2023-32731", "header tables of client and server differ"),
    Floor("grpcio", "1.53.0", "CVE-2023-32732", "a bad -bin header ends a proxy's connection"),
    Floor("grpcio", "1.56.2", "CVE-2023-33953", "header tables grow without an end"),
    Floor("grpcio", "1.55.3", "CVE-2023-4785", "too many connections stop the server"),
    Floor("grpcio", "1.60.0", "CVE-2023-44487", "streams reset as fast as they are opened"),
    Floor("grpcio", "1.65.4", "CVE-2024-7246", "one client fills the header table of others"),
    Floor("protobuf", "6.31.1", "CVE-2025-4565", "nested groups exhaust the stack"),
    Floor("protobuf", "6.33.5", "CVE-2026-0994", "nested Any in JSON exhausts the stack"),
    Floor("pyjwt", "2.4.0", "CVE-2022-29217", "a public key passes for an HMAC secret"),
    Floor("pyjwt", "2.12.0", "CVE-2026-32597", "critical headers are ignored"),
    Floor("pyjwt", "2.13.0", "CVE-2026-48526", "a public JWK passes for an HMAC secret"),
    Floor("pyjwt", "2.13.0", "CVE-2026-48524", "a token has key sets fetched"),
    Floor("cryptography", "46.0.5", "CVE-2026-26007", "points outside the subgroup are accepted"),
    Floor("cryptography", "46.0.7", "CVE-2026-39892", "a buffer in pieces overflows"),
    Floor("cryptography", "49.0.0", "CVE-2026-69249", "certificate paths multiply"),
    Floor("cryptography", "50.0.0", "CVE-2026-69247", "PKCS#7 tells what it decrypted"),
    Floor("sqlalchemy", "1.3.0", "CVE-2019-7164", "SQL in order_by"),
    Floor("sqlalchemy", "1.3.0", "CVE-2019-7548", "SQL in group_by"),
    Floor("redis", "4.5.3", "CVE-2023-28858", "a cancelled command leaves its reply to the next"),
    Floor("redis", "4.5.4", "CVE-2023-28859", "likewise, outside of pipelines"),
    Floor("pydantic", "2.4.0", "CVE-2024-3772", "an address takes for ever to check"),
    Floor("pydantic-settings", "2.14.2", "GHSA-4xgf-cpjx-pc3j", "links lead out of the secrets"),
    Floor("python-dotenv", "1.2.2", "CVE-2026-28684", "a link is written through"),
    Floor("mako", "1.2.2", "CVE-2022-40023", "a template takes for ever to read"),
    Floor("mako", "1.3.11", "CVE-2026-41205", "a template outside of its folder"),
    Floor("mako", "1.3.12", "CVE-2026-44307", "likewise, on Windows"),
    # Tools.
    Floor("pytest", "9.0.3", "CVE-2025-71176", "a guessable temporary folder"),
    Floor("pygments", "2.20.0", "CVE-2026-4539", "a text takes for ever to colour"),
    Floor("setuptools", "78.1.1", "CVE-2025-47273", "a download outside of its folder"),
)
SERVED_BY = ("grpcio", "protobuf", "pyjwt", "sqlalchemy", "redis", "pydantic", "mako")


def locked(lock: str) -> dict[str, Version]:
    """Read the versions of a lock file."""
    text = (ROOT / lock).read_text("utf-8")
    return {canonicalize_name(name): Version(text) for name, text in _LOCKED.findall(text)}


def allowed() -> dict[str, Version]:
    """Read the oldest versions that the services say they work with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {
        canonicalize_name(requirement.name): Version(bound.version)
        for requirement in map(Requirement, project["dependencies"])
        for bound in requirement.specifier
        if bound.operator in {">=", "==", "~="}
    }


@pytest.mark.requirement("FR-374")
@pytest.mark.parametrize("floor", FLOORS, ids=str)
class TestKnownVulnerability:
    def test_is_repaired_in_what_is_installed(self, floor: Floor) -> None:
        try:
            installed = Version(version(floor.package))
        except PackageNotFoundError:
            assert floor.package not in locked("requirements.lock")
            return
        assert installed >= Version(floor.version), floor.what

    @pytest.mark.parametrize("lock", LOCKS)
    def test_is_repaired_in_what_is_locked(self, floor: Floor, lock: str) -> None:
        found = locked(lock).get(canonicalize_name(floor.package))
        assert found is None or found >= Version(floor.version), floor.what

    def test_is_repaired_in_the_oldest_version_that_is_allowed(self, floor: Floor) -> None:
        """Who installs the package without its lock gets at least that."""
        oldest = allowed().get(canonicalize_name(floor.package))
        assert oldest is None or oldest >= Version(floor.version), floor.what


@pytest.mark.requirement("FR-374")
def test_the_client_library_of_postgresql_that_psycopg_brings_is_repaired() -> None:
    """CVE-2025-1094 (17.3): quoting that bad bytes break. CVE-2025-12818 (18.1): sizes wrap."""
    assert psycopg.pq.version() >= 18_00_01


@pytest.mark.requirement("FR-374")
class TestTheLocks:
    def test_hold_what_the_floors_are_about(self) -> None:
        """A name that is spelled otherwise would pass unseen."""
        assert set(SERVED_BY) <= set(locked("requirements.lock"))
        assert {"grpcio", "protobuf", "pyjwt", "sqlalchemy", "redis"} <= set(allowed())
        assert "cryptography" in locked("security/requirements.lock")
        assert "semgrep" in locked("security/requirements.lock")

    @pytest.mark.parametrize("lock", LOCKS)
    def test_pin_everything_by_its_hash(self, lock: str) -> None:
        text = (ROOT / lock).read_text("utf-8")
        for entry in re.split(r"\n(?=[A-Za-z0-9])", text)[1:]:
            assert "==" in entry.splitlines()[0]
            assert " \\\n    --hash=sha256:" in entry

    @pytest.mark.parametrize("lock", LOCKS)
    def test_name_no_registry(self, lock: str) -> None:
        text = (ROOT / lock).read_text("utf-8")
        assert "://" not in text
        assert "index-url" not in text
        assert "find-links" not in text

"""python -m security.sbom: what the services are made of, as CycloneDX JSON in build/sbom.json.

The generator, which `make sbom` sets up, describes all of `.venv`; this keeps what the services
need to run, checks the result against the schema, and leaves tools and tests out.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = ROOT / "build" / "sbom.json"
SPECIFICATION: Final = "1.6"

_TOOLS: Final = ROOT / ".venv-security" / "bin" / "python"
_VALIDATE: Final = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

sys.exit(str(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) or "") or 0)
"""

Document = dict[str, Any]


def is_set_up() -> bool:
    """Say whether the generator is there."""
    return _TOOLS.exists()


def needed(requirements: Iterable[str]) -> set[str]:
    """Name every package that the requirements need here, with what those need in turn."""
    names: set[str] = set()
    # A package is asked again for every other set of its extras.
    seen: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        try:
            below = requires(requirement.name) or []
        except PackageNotFoundError:
            continue  # for another system
        names.add(canonicalize_name(requirement.name))
        waiting += _that_count(map(Requirement, below), requirement.extras)
    return names


def _that_count(requirements: Iterable[Requirement], extras: set[str]) -> Iterator[Requirement]:
    for requirement in requirements:
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def kept(document: Document, names: set[str]) -> Document:
    """Return the document with these components alone, and what is between them."""
    components = [c for c in document["components"] if canonicalize_name(c["name"]) in names]
    references = {c["bom-ref"] for c in components}
    root = document["metadata"]["component"]["bom-ref"]
    dependencies = [
        _between(dependency, references)
        for dependency in document["dependencies"]
        if dependency["ref"] in {root, *references}
    ]
    return {**document, "components": components, "dependencies": dependencies}


def _between(dependency: Document, references: set[str]) -> Document:
    below = [ref for ref in dependency.get("dependsOn", ()) if ref in references]
    return {"ref": dependency["ref"], **({"dependsOn": below} if below else {})}


def generate() -> Document:
    """Describe the services. Raises SystemExit, or CalledProcessError if the schema is not met."""
    described = subprocess.run(
        [
            *(str(_TOOLS), "-m", "cyclonedx_py", "environment"),
            *("--pyproject", "pyproject.toml", "--spec-version", SPECIFICATION),
            # What is kept of it is checked below.
            *("--output-reproducible", "--no-validate", sys.prefix),
        ],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if described.returncode:
        sys.exit(described.stderr.decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    document = kept(json.loads(described.stdout), needed(project["dependencies"]))
    validate(document)
    return document


def validate(document: Document) -> None:
    """Check a document against the schema. Raises CalledProcessError."""
    subprocess.run(
        [str(_TOOLS), "-c", _VALIDATE], input=json.dumps(document), text=True, check=True
    )


def main() -> int:
    """Write the file. Returns the exit code."""
    document = generate()
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    where = TARGET.relative_to(ROOT)
    print(f"{where}: {len(document['components'])} components, CycloneDX {SPECIFICATION}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

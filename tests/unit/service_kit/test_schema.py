"""What is said of revisions without Alembic is what Alembic says."""

import subprocess
import sys

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from service_kit.schema import _revisions, folder_of

PACKAGES = ("order_service.storage.migrations", "payment_service.storage.migrations")


@pytest.mark.parametrize("package", PACKAGES)
def test_revisions_are_those_of_alembic(package: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(folder_of(package)))
    scripts = ScriptDirectory.from_config(config)

    known, newest = _revisions(package)

    assert known == {script.revision for script in scripts.walk_revisions()}
    assert newest == set(scripts.get_heads())


@pytest.mark.parametrize("service", ["order_service", "payment_service"])
def test_serving_loads_neither_alembic_nor_what_operators_ask(service: str) -> None:
    """Each of them takes as long to load as a tenth of a start, or longer."""
    code = f"import sys, {service}.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert f"{service}.bootstrap" in loaded
    assert not {"alembic", "redis", f"{service}.commands"} & set(loaded)

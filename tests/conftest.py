"""What every test can ask for."""

import os

import pytest

pytest_plugins = ["tests.servers.fixtures", "tests.captured_log"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One process more than there are processors: many tests wait for something."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # xdist reads it itself
    return (os.cpu_count() or 1) + 1

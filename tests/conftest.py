"""
Fixtures that tests of several kinds use live in modules of their own, named here.

All tests together run in two processes: one after the other those that start Ray, and beside
them the others, which mostly wait. Tests that are asked for by name run in pytest's own process.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

pytest_plugins = ["tests.fixtures_postgres"]

WITH_RAY = {"cluster", "e2e", "chaos"}
"""Folders whose tests use so many processes that two at once would only be in each other's way."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes; 0: this one."""
    return 2 if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Say what runs in one process: files share their fixtures, and tests with Ray the machine."""
    here = Path(__file__).parent
    for item in items:
        file = item.path.relative_to(here)
        item.add_marker(pytest.mark.xdist_group("ray" if file.parts[0] in WITH_RAY else str(file)))

"""
Fixtures that tests of several kinds use live in modules of their own, named here.

All tests together run in two processes, a file at a time: most of them wait for something most of
the time. Tests that are asked for by name run in pytest's own process.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import PurePath
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

# Ray reads it when it is imported. Where tests are started by `uv run`, Ray would start each worker by it
# again, with an environment of its own that takes longer to make than most tests wait.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

# Where a shell starts tests in the background, SIGINT is ignored, and processes of tests would inherit that.
_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
if _ignored and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's to say.
hypothesis.settings.register_profile("any_machine", deadline=None)
hypothesis.settings.load_profile("any_machine")

pytest_plugins = ["tests.support.fixtures_postgres"]

SHARE_FIXTURES = {"cluster"}
"""Folders whose files share what takes long to start."""


class ByFileOrFolder(LoadScopeScheduling):
    """
    Tests of one file, or of one folder, run in the same process.

    By a scheduler, as marks for groups have no effect with pytest 9 and pytest-xdist 3.8.
    """

    def _split_scope(self, nodeid: str) -> str:
        """What this test has to be together with."""
        file, *_ = nodeid.split("::")
        folder = PurePath(file).parts[1]
        return folder if folder in SHARE_FIXTURES else file


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes; 0: this one."""
    return 2 if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Who decides what runs where."""
    return ByFileOrFolder(config, log)

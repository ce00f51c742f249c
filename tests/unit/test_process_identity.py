"""Names of processes, from which it can be told that one is gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cos_ray.system.process_identity import is_surely_gone, own_name

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is told")

SAYS_ITS_NAME = "from cos_ray.system.process_identity import own_name; print(own_name(), flush=True); input()"


def other() -> tuple[subprocess.Popen[str], str]:
    """Another process, and its name."""
    process = subprocess.Popen(
        [sys.executable, "-c", SAYS_ITS_NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_this_process_is_there_and_has_a_new_name_each_time() -> None:
    assert own_name() != own_name()
    assert not is_surely_gone(own_name())


def test_a_process_is_gone_once_it_is_killed_also_while_nobody_has_taken_notice() -> None:
    process, name = other()
    try:
        assert not is_surely_gone(name)
        process.kill()
        # A zombie now: it is not waited for yet.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_surely_gone(name)
    finally:
        process.kill()
        process.wait()
    assert is_surely_gone(name)


def test_a_number_that_was_given_out_again_is_another_process() -> None:
    machine, pid, started, unique = own_name().split("/")
    assert is_surely_gone(f"{machine}/{pid}/{int(started) - 1}/{unique}")


@pytest.mark.parametrize(
    "change",
    [
        lambda machine, pid, started, unique: unique,
        lambda machine, pid, started, unique: f"elsewhere.1/{pid}/{started}/{unique}",
        lambda machine, pid, started, unique: f"{machine}/0/{started}/{unique}",
        lambda machine, pid, started, unique: f"{machine}/{'9' * 30}/{started}/{unique}",
        lambda machine, pid, started, unique: f"{machine}/x/{started}/{unique}",
        lambda machine, pid, started, unique: f"{machine}/{pid}",
        lambda machine, pid, started, unique: "",
    ],
)
def test_of_what_runs_elsewhere_or_nowhere_nothing_is_said(change) -> None:  # type: ignore[no-untyped-def]
    assert not is_surely_gone(change(*own_name().split("/")))

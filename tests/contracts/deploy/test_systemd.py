"""The systemd unit: accepted by systemd, and in agreement with how the service starts, stops and fails."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from cos_ray.bootstrap.service import CLUSTER_STOP, DATABASE_PATIENCE
from cos_ray.cli.app import MISCONFIGURED, app
from tests.support.deploy import DEPLOY

UNIT = (DEPLOY / "systemd/cos-ray.service").read_text(encoding="utf-8")


def _settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def _verified(text: str, folder: Path) -> str:
    """What systemd has against it; the program need not be there."""
    if (tool := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd is not on this machine")
    unit = folder / "cos-ray.service"
    unit.write_text(text.replace("/opt/cos-ray/bin/cos-ray", "/bin/true"))
    result = subprocess.run([tool, "verify", unit], capture_output=True, text=True, timeout=60)
    return "\n".join(line for line in result.stderr.splitlines() if "cos-ray.service" in line)


def test_systemd_accepts_it(tmp_path: Path) -> None:
    assert _verified(UNIT, tmp_path) == ""


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("KillMode=mixed", "KillMod=mixed"),
        ("KillMode=mixed", "KillMode=mixd"),
        ("TimeoutStopSec=60", "TimeoutStopSec=a minute"),
        ("ExecStart=/opt", "ExecStart=opt"),
    ],
)
def test_what_systemd_does_not_accept_is_found(tmp_path: Path, line: str, instead: str) -> None:
    assert line in UNIT
    assert _verified(UNIT.replace(line, instead), tmp_path)


def test_it_runs_a_command_that_there_is_as_a_user_that_is_not_root() -> None:
    settings = _settings(UNIT)
    [command] = settings["ExecStart"]
    assert command.split()[1:] == ["serve"]
    assert "serve" in {
        each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands
    }
    assert settings["User"] == ["cos-ray"]


def test_it_stops_as_the_service_wants_to_be_stopped() -> None:
    settings = _settings(UNIT)
    assert settings["KillMode"] == ["mixed"]
    assert settings["KillSignal"] == ["SIGTERM"]
    # In good order, by force if need be, then the database.
    assert timedelta(seconds=int(settings["TimeoutStopSec"][0])) > 2 * CLUSTER_STOP
    assert timedelta(seconds=int(settings["TimeoutStartSec"][0])) > DATABASE_PATIENCE


def test_wrong_settings_are_not_tried_again() -> None:
    settings = _settings(UNIT)
    assert settings["Restart"] == ["on-failure"]
    assert settings["RestartPreventExitStatus"] == [str(MISCONFIGURED)]


def test_what_it_writes_is_in_its_own_folder() -> None:
    settings = _settings(UNIT)
    assert settings["ProtectSystem"] == ["strict"]
    state = f"/var/lib/{settings['StateDirectory'][0]}"
    folders = [value.split("=", 1)[1] for value in settings["Environment"]]
    assert folders == [f"{state}/data", state]
    # Sockets of Ray: <folder>/ray/session_<date>_<time>_<microseconds>_<pid>/sockets/plasma_store
    socket = f"{state}/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
    assert len(socket) < 107

"""Folders for files and sockets: which is taken, which is not, and what is said of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cos_ray.bootstrap import scratch
from cos_ray.bootstrap.scratch import RAY, fault_of, ray_folder
from cos_ray.domain.errors import StartFailed

ANY_LENGTH = replace(RAY, longest=200)
APART = ["unshare", "--map-root-user", "--mount"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="d-", dir="/tmp") as made:
        yield Path(made)


def test_one_that_is_named_and_fits_is_taken_without_a_word(folder: Path) -> None:
    told: list[str] = []
    assert ray_folder({"TMPDIR": str(folder)}, told.append) == str(folder)
    assert ray_folder({"RAY_TMPDIR": str(folder / "new"), "TMPDIR": "/nope"}, told.append) == f"{folder}/new"
    assert ray_folder({}, told.append) == "/tmp"
    assert told == []


def test_a_socket_of_ray_s_at_the_longest_still_fits() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        long = Path(made) / ("d" * (RAY.longest - len(made) - 1))
        sockets = long / "ray/session_2026-12-01_00-00-00_000000_4194304/sockets"
        sockets.mkdir(parents=True)
        assert ray_folder({"TMPDIR": str(long)}, print) == str(long)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(sockets / "dash_TaskEventsHead"))


@pytest.mark.parametrize(
    ("named", "fault"),
    [
        ("/run/user/1000/a-name-of-some-length", "has 36 bytes; allowed: 32, for the paths of sockets in it"),
        ("/nope", "is no folder"),
        ("nope", "is no absolute path"),
        ("/tmp/a b", "holds other characters than letters and digits of ASCII and _./+@:,=~^-"),
        ("/größe", "holds other characters than letters and digits of ASCII and _./+@:,=~^-"),
        ("/etc/hosts", "is no folder"),
    ],
)
def test_one_that_does_not_fit_gives_way_to_a_usual_one_and_that_is_said(named: str, fault: str) -> None:
    told: list[str] = []
    assert ray_folder({"TMPDIR": named}, told.append) == "/tmp"
    assert told == [f"Ray's files are kept in /tmp: TMPDIR is {named!r}, which {fault}"]


@pytest.mark.parametrize("named", ["/tmp/" + "a" * 40, "/proc/nope", "/tmp/größe"])
def test_one_that_is_named_to_ray_and_does_not_fit_is_refused_in_a_line(named: str) -> None:
    with pytest.raises(StartFailed) as refused:
        ray_folder({"RAY_TMPDIR": named, "TMPDIR": "/tmp"}, print)
    assert str(refused.value).startswith(f"RAY_TMPDIR is {named!r}, which ")
    assert "\n" not in str(refused.value)
    assert not Path(named).exists()


def test_where_none_fits_the_start_is_refused_in_a_line_that_names_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scratch, "_USUAL", ("/proc", "/nope"))
    with pytest.raises(StartFailed) as refused:
        ray_folder({"TMPDIR": "/a/name/that/is/long/and/longer/still"}, print)
    assert str(refused.value) == (
        "there is no folder for Ray's files: TMPDIR is '/a/name/that/is/long/and/longer/still', which "
        "has 37 bytes; allowed: 32, for the paths of sockets in it; /proc cannot be used: No such file or "
        "directory; "
        "/nope is no folder; set TMPDIR to one that fits"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_one_without_the_right_to_write_does_not_fit(folder: Path) -> None:
    folder.chmod(0o500)
    assert fault_of(str(folder), ANY_LENGTH) == "cannot be used: Permission denied"


@pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run([*APART, "true"], capture_output=True).returncode != 0,
    reason="file systems are mounted in a namespace of one's own, which is not allowed here",
)
@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ("size=64k", "cannot be used: No space left on device"),
        ("ro", "cannot be used: Read-only file system"),
        ("nr_inodes=1", "cannot be used: No space left on device"),
        ("size=8m", "None"),
    ],
)
def test_a_file_system_that_is_of_no_use_does_not_fit(folder: Path, options: str, fault: str) -> None:
    code = (
        "import sys; from dataclasses import replace; "
        "from cos_ray.bootstrap.scratch import RAY, fault_of; "
        "print(fault_of(sys.argv[1], replace(RAY, longest=200)))"
    )
    mount_and_ask = 'mount -t tmpfs -o "$1" none "$2" && exec "$3" -c "$4" "$2"'
    command = [*APART, "sh", "-c", mount_and_ask, "sh", options, str(folder), sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == fault, done.stderr

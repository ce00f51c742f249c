"""
Where files are kept for as long as the service runs: folders whose paths are short enough for Unix sockets.

The system allows 107 bytes for the path of a socket, and Ray puts its own several folders deep. A folder is
tried out before anything starts: Ray, told of one that it cannot use, fails after half a minute and with
pages of traces.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cos_ray.domain.errors import StartFailed

SOCKET_PATH = 107
"""Bytes of the longest path of a Unix socket, in Linux."""

_RAYS_LONGEST = len("/ray/session_2026-12-01_00-00-00_000000_4194304/sockets/dash_TaskEventsHead")

_TRIED = 1024 * 1024
"""Bytes that must find room."""

_PLAIN = re.compile(r"[A-Za-z0-9_./+@:,=~^-]+")
_USUAL = ("/tmp", "/dev/shm", "/run")  # noqa: S108 - folders in them are made by mkdtemp, for this user alone


@dataclass(frozen=True, slots=True)
class Needs:
    """What a folder must be fit for."""

    what: str
    longest: int
    """Bytes that its own path may have."""


RAY = Needs("Ray's files", SOCKET_PATH - _RAYS_LONGEST)


def ray_folder(environment: Mapping[str, str], tell: Callable[[str], None]) -> str:
    """
    The folder to name in RAY_TMPDIR: that of RAY_TMPDIR, of TMPDIR, or a usual one.

    `tell` hears why one that was named is not taken. Raises StartFailed, at once for RAY_TMPDIR: what is
    said to Ray alone is meant.
    """
    named = environment.get("RAY_TMPDIR")
    if named:
        fault = _fault_in_name(named, RAY) or _made(named) or _fault_in_use(named)
        if fault is not None:
            raise StartFailed(f"RAY_TMPDIR is {named!r}, which {fault}")
        return named
    return _first_fit(environment, RAY, tell)


def _first_fit(environment: Mapping[str, str], needs: Needs, tell: Callable[[str], None]) -> str:
    faults = list[str]()
    for variable, folder in [("TMPDIR", environment.get("TMPDIR")), *((None, usual) for usual in _USUAL)]:
        if not folder:
            continue
        fault = fault_of(folder, needs)
        if fault is None:
            if faults:
                tell(f"{needs.what} are kept in {folder}: {faults[0]}")
            return folder
        faults.append(f"TMPDIR is {folder!r}, which {fault}" if variable else f"{folder} {fault}")
    raise StartFailed(
        f"there is no folder for {needs.what}: {'; '.join(faults)}; set TMPDIR to one that fits"
    )


def fault_of(folder: str, needs: Needs) -> str | None:
    """What makes the folder unfit, as the end of a sentence about it; None when nothing does."""
    return _fault_in_name(folder, needs) or _fault_in_use(folder)


def _fault_in_name(folder: str, needs: Needs) -> str | None:
    octets = len(os.fsencode(folder.rstrip("/")))
    if not folder.startswith("/"):
        return "is no absolute path"
    if not _PLAIN.fullmatch(folder):
        return "holds other characters than letters and digits of ASCII and _./+@:,=~^-"
    if octets > needs.longest:
        return f"has {octets} bytes; allowed: {needs.longest}, for the paths of sockets in it"
    return None


def _fault_in_use(folder: str) -> str | None:
    if not Path(folder).is_dir():
        return "is no folder"
    try:
        with tempfile.TemporaryDirectory(prefix="cos-ray-", dir=folder) as trial:
            (Path(trial) / "room").write_bytes(bytes(_TRIED))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
                one.bind(f"{trial}/s")
    except OSError as error:
        return f"cannot be used: {error.strerror or error}"
    return None


def _made(folder: str) -> str | None:
    """Make it, as Ray would; why that cannot be done."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot be made: {error.strerror}"
    return None

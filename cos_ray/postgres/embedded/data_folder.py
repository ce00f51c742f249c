"""
The folder an embedded PostgreSQL lives in: what may be in it, who uses it, which user owns it.

    data/              PostgreSQL's own files
    data.unfinished/   a first start that did not come to its end; removed by the next
    password           of the superuser, for its owner's eyes only
    lock               held by the process whose server it is
    postgres.log
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from datetime import timedelta
from pathlib import Path

import psutil

from cos_ray.domain.errors import StartFailed

_OURS = frozenset({"data", "data.unfinished", "password", "lock", "postgres.log", "postgres.log.old"})
_LARGEST_LOG = 10 * 1024 * 1024


class DataFolder:
    """One folder, for one server at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.data = self.path / "data"
        self.unfinished = self.path / "data.unfinished"
        self.log = self.path / "postgres.log"
        self._password = self.path / "password"
        self._lock: int | None = None
        self._log_start = 0

    def claim(self) -> None:
        """Make this process the folder's only user. Raises StartFailed when it is not to be had."""
        self._refuse_what_is_not_ours()
        try:
            # As root the server is another user, who has to get through; each file inside is closed.
            self.path.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartFailed(f"the data folder {self.path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
            os.close(lock)
            raise StartFailed(f"the data folder {self.path} is in use by process {holder}") from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock = lock

    def release(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def is_new(self) -> bool:
        """Whether there is no database in it yet."""
        return not self.data.exists()

    def require_major(self, major: str) -> None:
        """Raise StartFailed if the data are another PostgreSQL's than `major`."""
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != major:
            raise StartFailed(
                f"the data folder {self.path} was written by PostgreSQL {found}, this one is {major}: "
                f"dump the data with the old version and restore them into an empty folder"
            )

    def owner(self) -> int:
        """The user id the server's files belong to."""
        return self.data.stat().st_uid

    def password(self) -> str:
        """The superuser's password, made up when the database was. Raises StartFailed if it is lost."""
        try:
            return self._password.read_text().strip()
        except OSError as error:
            raise StartFailed(f"the password in {self._password} cannot be read: {error.strerror}") from error

    def begin(self) -> Path:
        """An empty folder and a password for a new database, where no start takes it for a finished one."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(mode=0o700)
        self._password.unlink(missing_ok=True)
        handle = os.open(self._password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_urlsafe(24))
            stream.flush()
            os.fsync(handle)
        return self.unfinished

    def finish(self) -> None:
        """The new database is complete: put it in its place."""
        self.unfinished.rename(self.data)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def wait_for_predecessor(self, within: timedelta) -> None:
        """
        Wait for a server whose parent was killed to finish; forget one that is long gone.

        Raises StartFailed, naming the process, when it is still there after that time.
        """
        deadline = time.monotonic() + within.total_seconds()
        while (pid := self._recorded_pid()) is not None and _serves(pid, self.data):
            if time.monotonic() >= deadline:
                raise StartFailed(f"the data folder {self.path} is in use by PostgreSQL process {pid}")
            time.sleep(0.05)
        # Left by a crash. The number may belong to an unrelated process by now (in a container
        # it nearly always does), which PostgreSQL would take for itself.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def port_in_use(self) -> int | None:
        """The port on which a server serves these data now; None if none does."""
        pid = self._recorded_pid()
        if pid is None or not _serves(pid, self.data):
            return None
        try:
            return int((self.data / "postmaster.pid").read_text().splitlines()[3])
        except (OSError, ValueError, IndexError):
            return None

    def open_log(self) -> int:
        """A file descriptor that appends to the log; a log grown long is put aside first."""
        if self.log.exists() and self.log.stat().st_size > _LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.old"))
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._log_start = os.fstat(log).st_size
        return log

    def logged(self) -> list[str]:
        """The lines written since the log was last opened."""
        with self.log.open("rb") as stream:
            stream.seek(self._log_start)
            lines = stream.read().decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def _refuse_what_is_not_ours(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise StartFailed(f"the data folder {self.path} is a file")
        try:
            found = {entry.name for entry in self.path.iterdir()}
        except OSError as error:
            raise StartFailed(f"the data folder {self.path} cannot be read: {error.strerror}") from error
        if found and not found <= _OURS:
            raise StartFailed(
                f"the data folder {self.path} holds other files ({min(found - _OURS)}): "
                f"an empty or a new folder is needed"
            )
        if self.data.exists() and not (self.data / "PG_VERSION").exists():
            raise StartFailed(f"the data folder {self.path} holds no PostgreSQL data in {self.data.name}")

    def _recorded_pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None


def _serves(pid: int, data: Path) -> bool:
    """Whether this process is a PostgreSQL server on these data: it lives in their folder."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or "postgres" not in process.name():
            return False
        return os.path.realpath(process.cwd()) == os.path.realpath(data)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True

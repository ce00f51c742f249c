"""
A real PostgreSQL of our own, for when no other is configured.

It listens on 127.0.0.1 only and asks for a password, keeps its data across restarts, comes back
when it crashes, and goes when this process goes, however that happens.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg

from cos_ray.domain.errors import StartFailed
from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded.binaries import MAJOR, Runner, program, runner_for
from cos_ray.postgres.embedded.data_folder import DataFolder
from cos_ray.postgres.embedded.launcher import NOT_PERMITTED
from cos_ray.system.free_port import free_port

logger = logging.getLogger(__name__)

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # None at all: their paths are limited to 107 bytes, and TCP serves everyone.
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    # Short statements only: compiling them costs more than it saves.
    "jit": "off",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}

_READY_WITHIN = timedelta(minutes=5)
"""Recovery after a crash replays the log; the process is watched meanwhile."""

_FAST_WITHIN = timedelta(seconds=15)
_IMMEDIATE_WITHIN = timedelta(seconds=5)
_LONGEST_PAUSE = 30.0


class EmbeddedPostgres:
    """A supervised PostgreSQL server; `data_dir` is a folder of its own, made if need be."""

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self._folder = DataFolder(data_dir)
        self._port = port
        self._server: _Server | None = None

    def start(self, on_progress: Callable[[str], None] | None = None) -> Database:
        """
        Start the server and wait until it answers; says what it does in short lines.

        Raises StartFailed with one line that says why not.
        """
        tell = on_progress or (lambda _: None)
        self._folder.claim()
        try:
            runner = self._prepare(tell)
            port = self._port or free_port()
            database = self._database(port)
            tell(f"starting PostgreSQL {MAJOR} on 127.0.0.1:{port}")
            self._server = _Server(self._folder, runner, port)
            self._server.start()
            self._wait_until_ready(self._server, database, tell)
        except BaseException:
            self.stop()
            raise
        return database

    def running(self) -> Database | None:
        """The database of a server that another process keeps on these data; None if there is none."""
        port = self._folder.port_in_use()
        return None if port is None else self._database(port)

    def stop(self) -> None:
        """Shut the server down, fast at first, then at any price; the data are safe either way."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        self._folder.release()

    def _database(self, port: int) -> Database:
        return Database(host="127.0.0.1", port=port, password=self._folder.password(), sslmode="disable")

    def _prepare(self, tell: Callable[[str], None]) -> Runner:
        folder = self._folder
        if folder.is_new:
            runner = runner_for(None, folder.data, program("postgres"))
            tell(f"making a database in {folder.path}")
            _make_database(folder, runner)
            return runner
        folder.require_major(MAJOR)
        # Longer than a fast shutdown of the server before, whose parent was killed, should take.
        folder.wait_for_predecessor(within=_FAST_WITHIN)
        return runner_for(folder.owner(), folder.data, program("postgres"))

    def _wait_until_ready(self, server: _Server, database: Database, tell: Callable[[str], None]) -> None:
        began = time.monotonic()
        told = began
        while True:
            try:
                psycopg.connect(**database.connect_arguments()).close()
                return
            except psycopg.OperationalError as error:
                now = time.monotonic()
                if (status := server.exit_status) is not None:
                    raise StartFailed(_why_it_ended(status, self._folder)) from error
                if now - began > _READY_WITHIN.total_seconds():
                    raise StartFailed(f"PostgreSQL is not ready, see {self._folder.log}: {error}") from error
                if now - told > 5:
                    told = now
                    tell(f"still waiting for PostgreSQL: {str(error).splitlines()[-1].strip()}")
                time.sleep(0.02)


class _Server:
    """The `postgres` process, started again when it ends by itself."""

    def __init__(self, folder: DataFolder, runner: Runner, port: int) -> None:
        self._folder, self._runner = folder, runner
        settings = {**_SETTINGS, "port": str(port)}
        self._command = [str(program("postgres")), "-D", str(folder.data)]
        for name, value in settings.items():
            self._command += ["-c", f"{name}={value}"]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._spawning = threading.Lock()
        self._spawned = threading.Event()
        self.exit_status: int | None = None
        """How the process ended, if it did at all; for the time before the server was first ready."""
        # The kernel ties the server's life to the thread that starts it, so that this thread
        # must live as long as the process: it is the one that keeps watch.
        self._coordinator = threading.Thread(target=self._keep, name="postgres-coordinator", daemon=True)

    def start(self) -> None:
        self._coordinator.start()
        self._spawned.wait()

    def stop(self) -> None:
        with self._spawning:
            self._stopping.set()
        for signal_, patience in (
            (signal.SIGINT, _FAST_WITHIN),
            (signal.SIGQUIT, _IMMEDIATE_WITHIN),
            (signal.SIGKILL, _IMMEDIATE_WITHIN),
        ):
            process = self._process
            if process is not None and process.poll() is None:
                process.send_signal(signal_)
            self._coordinator.join(patience.total_seconds())
            if not self._coordinator.is_alive():
                return
            logger.warning("postgres does not stop", extra={"signal": signal_.name})

    def _keep(self) -> None:
        pause = 0.25
        while True:
            began = time.monotonic()
            with self._spawning:
                if self._stopping.is_set():
                    return
                process = self._process = self._spawn()
            self._spawned.set()
            self.exit_status = process.wait()
            if self._stopping.is_set():
                return
            logger.error("postgres ended by itself", extra={"exit_status": self.exit_status})
            pause = min(pause * 2, _LONGEST_PAUSE) if time.monotonic() - began < 60 else 0.5
            self._stopping.wait(pause)

    def _spawn(self) -> subprocess.Popen[bytes]:
        log = self._folder.open_log()
        try:
            return self._runner.popen(self._command, log, dies_with_us=True)
        finally:
            os.close(log)


def _make_database(folder: DataFolder, runner: Runner) -> None:
    target = folder.begin()
    runner.own(target)
    runner.own(folder.path / "password")
    command = [
        str(program("initdb")),
        *("--pgdata", str(target)),
        *("--username", "postgres", "--pwfile", str(folder.path / "password")),
        *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"),
        "--no-instructions",
    ]
    log = folder.open_log()
    try:
        status = runner.popen(command, log, dies_with_us=True).wait()
    finally:
        os.close(log)
    if status != 0:
        raise StartFailed(_why_it_ended(status, folder))
    folder.finish()


def _why_it_ended(status: int, folder: DataFolder) -> str:
    lines = folder.logged()
    if status == NOT_PERMITTED:
        return (
            f"PostgreSQL cannot run as root, and {lines[-1] if lines else 'changing the user failed'}: "
            f"start this as another user, keep {folder.path} and the installation out of closed "
            f"folders, or use a database of your own (COS_DB_HOST)"
        )
    told = [line for line in lines if "FATAL" in line or "error:" in line] or lines or ["no word"]
    return f"PostgreSQL did not start (exit status {status}, log {folder.log}): {told[-1]}"

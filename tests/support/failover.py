"""A primary and a standby that copies it asynchronously, and the moment when the standby takes over."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import psycopg
from typing_extensions import Self

from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded.binaries import Runner, program, runner_for
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.system.free_port import free_port

WITHIN = 60.0
"""Seconds that any step may take on a busy machine."""


class Failover:
    """Two servers; the second one has what the first had when `cut_off` was called, and nothing later."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cos-ray-failover-"))
        self._folder.chmod(0o711)
        self._server = EmbeddedPostgres(self._folder / "primary")
        self._standby: subprocess.Popen[bytes] | None = None
        self.primary: Database
        self.standby: Database

    def __enter__(self) -> Self:
        try:
            self.primary = self._server.start()
            self.standby = replace(self.primary, port=free_port())
            self._copy()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, type_: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def cut_off(self) -> None:
        """Let the standby have all there is now, and nothing that comes later."""
        with self._asking(self.primary) as primary, self._asking(self.standby) as standby:
            ((now,),) = primary.execute("select pg_current_wal_flush_lsn()::text").fetchall()
            query = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"
            _until(lambda: bool(standby.execute(query, [now]).fetchall()[0][0]))
            standby.execute("alter system set primary_conninfo = ''")
            standby.execute("select pg_reload_conf()")
            _until(lambda: not standby.execute("select from pg_stat_wal_receiver").fetchall())

    def fail_over(self) -> None:
        """The primary is gone for good; the standby takes writes from now on."""
        self._server.stop()
        with self._asking(self.standby) as standby:
            ((promoted,),) = standby.execute("select pg_promote(true, 60)").fetchall()
            assert promoted

    def _copy(self) -> None:
        data = self._folder / "standby"
        data.mkdir(mode=0o700)
        runner = runner_for(None, data, program("postgres"))
        runner.own(data)
        source = (
            f"host=127.0.0.1 port={self.primary.port} user=postgres password={self.primary.password}"
            " sslmode=disable"
        )
        copied = self._run(
            runner,
            [
                str(program("postgres").with_name("pg_basebackup")),
                *("-D", str(data), "-d", source, "-R", "-X", "stream", "-c", "fast"),
            ],
        )
        assert copied.wait() == 0, self._log.read_text()
        self._standby = self._run(
            runner,
            [
                *(str(program("postgres")), "-D", str(data)),
                *("-c", f"port={self.standby.port}", "-c", "listen_addresses=127.0.0.1"),
                *("-c", "unix_socket_directories=", "-c", "hot_standby=on", "-c", "max_connections=100"),
            ],
        )
        _until(self._is_up)

    @property
    def _log(self) -> Path:
        return self._folder / "standby.log"

    def _run(self, runner: Runner, command: list[str]) -> subprocess.Popen[bytes]:
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return runner.popen(command, log, dies_with_us=False)
        finally:
            os.close(log)

    def _is_up(self) -> bool:
        assert self._standby is not None
        assert self._standby.poll() is None, self._log.read_text()
        try:
            with self._asking(self.standby) as connection:
                return bool(connection.execute("select from pg_stat_wal_receiver").fetchall())
        except psycopg.OperationalError:
            return False

    @contextmanager
    def _asking(self, server: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        arguments = {**server.connect_arguments(), "target_session_attrs": "any"}
        with psycopg.connect(**arguments) as connection:
            yield connection

    def _end(self) -> None:
        if self._standby is not None:
            self._standby.terminate()
            try:
                self._standby.wait(10)
            except subprocess.TimeoutExpired:
                self._standby.send_signal(3)
                self._standby.wait(10)
        self._server.stop()
        shutil.rmtree(self._folder)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)

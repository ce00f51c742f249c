"""The naive baseline: what one would write without event sourcing, in one process."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from benchmarks.contestants.base import Contestant, family
from benchmarks.load.requests import Style
from cos_ray.cli.child_process import ChildProcess
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from tests.support.running_service import BANK, dying_with_us, plain_environment


class Naive(Contestant):
    """A plain gRPC server; state in a row of Postgres, read and written under FOR UPDATE."""

    name = "naive: grpc.aio and a row FOR UPDATE"
    style = Style.SERVICE

    def start(self) -> None:
        """Start its database, its write handler and itself."""
        postgres = EmbeddedPostgres(self.folder / "postgres")
        self.running.callback(postgres.stop)
        database = postgres.start()
        self._database = f"postgresql://postgres:{database.password}@{database.host}:{database.port}/postgres"
        self._port = database.port
        self._handler = self._child(BANK, "write-handler", "--port", "0")
        handler = self._handler.wait_for(lambda line: " listening on " in line, 30).rsplit(" ", 1)[1]
        self._server = self._child("benchmarks.contestants.naive_server", self._database, handler)
        line = self._server.wait_for(lambda line: " listening on " in line, 30)
        self._address = line.rsplit(" ", 1)[1]

    @property
    def address(self) -> str:
        """Its gRPC port."""
        return self._address

    def processes(self) -> Iterable[tuple[str, psutil.Process]]:
        """The server, the handler and the database."""
        return [
            *(("server", process) for process in family(self._server.pid)),
            *(("handler", process) for process in family(self._handler.pid)),
            *(("Postgres", process) for process in self._backends()),
        ]

    def _backends(self) -> Iterable[psutil.Process]:
        # Its postmaster is this process's child, as other embedded servers are their launchers'.
        for child in psutil.Process().children():
            if child.name() == "postgres":
                yield from family(child.pid)

    def _child(self, *arguments: str) -> ChildProcess:
        child = ChildProcess([*dying_with_us(), "-m", *arguments], plain_environment())
        self.running.callback(child.stop)
        return child

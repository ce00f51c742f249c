"""The service itself, in each of its forms; and its ingress doing nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from benchmarks.contestants.base import Contestant, NotAvailable, family
from benchmarks.contestants.kinds import kind_of
from benchmarks.load.requests import Style
from cos_ray.cli.child_process import ChildFailed, ChildProcess
from tests.support.running_service import BANK, RunningService, dying_with_us, plain_environment


class Service(Contestant):
    """`cos-ray serve` with a placement and a kind of write handler; its own database, one node."""

    style = Style.SERVICE

    def __init__(self, folder: Path, placement: str, handler: str) -> None:
        """`placement` is auto, dedicated or sharded, `handler` gRPC or in-process."""
        super().__init__(folder)
        self.name = f"cos_ray {placement}, {handler} handler"
        self._placement, self._is_grpc = placement, handler == "gRPC"
        if placement == "dedicated":
            # A process for each: more do not fit into a small machine.
            self.largest_population = 40
            self.takes_new_accounts = False
        self._handler: ChildProcess | None = None

    def start(self) -> None:
        """Start the handler, if it has a process, and the service."""
        self.service = RunningService(self.folder / "data", {**_SETTINGS, **self._settings()})
        self.running.callback(self.service.end)
        try:
            self.service.start()
        except ChildFailed as error:
            raise NotAvailable(str(error).splitlines()[-1].strip()) from error

    @property
    def address(self) -> str:
        """Its gRPC port."""
        return self.service.address

    def processes(self) -> Iterable[tuple[str, psutil.Process]]:
        """All that the launcher has started, and the handler."""
        found = [(kind_of(process), process) for process in family(self.service.pid)]
        if self._handler is not None:
            found += [("handler", process) for process in family(self._handler.pid)]
        return found

    @property
    def keeps_many(self) -> bool:
        """Whether it can have a hundred thousand entities in memory."""
        return self._placement != "dedicated"

    def memory(self) -> int:
        """Bytes that belong to the processes in which entities live, and to no other."""
        homes = ("shard hosts", "entity actors")
        return sum(process.memory_full_info().uss for kind, process in self.processes() if kind in homes)

    def _settings(self) -> Mapping[str, str]:
        placement = {"COS_ENTITY_PLACEMENT": self._placement}
        if not self._is_grpc:
            return {**placement, "COS_WRITE_SIDE_HANDLER": f"{BANK}.python_handler:BankAccounts"}
        self._handler = ChildProcess(
            [*dying_with_us(), "-m", BANK, "write-handler", "--port", "0"], plain_environment()
        )
        self.running.callback(self._handler.stop)
        line = self._handler.wait_for(lambda line: " listening on " in line, 30)
        port = line.rsplit(":", 1)[1]
        return {**placement, "COS_WRITE_SIDE_HOST": "127.0.0.1", "COS_WRITE_SIDE_PORT": port}


class EmptyIngress(Contestant):
    """The ceiling: a request goes in and comes out again, through one of the replicas."""

    name = "Serve ingress doing nothing"
    style = Style.HEALTH
    takes_new_accounts = False

    def __init__(self, folder: Path, service: Service) -> None:
        """A running service answers its health check from the replica's memory."""
        super().__init__(folder)
        self._service = service

    def start(self) -> None:
        """Nothing: the service runs."""

    @property
    def address(self) -> str:
        """The service's."""
        return self._service.address

    def processes(self) -> Iterable[tuple[str, psutil.Process]]:
        """The service's."""
        return self._service.processes()


_SETTINGS = {
    "LOG_LEVEL": "WARN",
    "COS_COMMAND_HANDLER_TIMEOUT": "60s",
    # As users have it: contestants take turns, and who waits is not to fall asleep.
    "COS_PASSIVATION_IDLE_AFTER": "2m",
}

"""The demo's processes: the bank's two handlers, and the service itself by `cos-ray serve`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cos_ray.cli.child_process import ChildFailed, ChildProcess
from cos_ray.cli.progress import Progress
from cos_ray.domain.ids import EntityId
from cos_ray.system.free_port import free_port

BANK = "cos_ray.samples.bank"


class DemoService:
    """Starts and stops what the demo needs, in one directory."""

    def __init__(self, directory: Path, progress: Progress) -> None:
        self._directory = directory
        self._progress = progress
        self._port, self._http_port = free_port(), free_port()
        self._handlers: list[ChildProcess] = []
        self._handler_ports: list[int] = []
        self._service: ChildProcess | None = None
        self._dashboard = ""
        # The service would make one up; this story looks into the cluster, and needs to know it.
        self._token = secrets.token_hex(32)
        self.balances = directory / "balances.sqlite"
        """The read side's table."""

    @property
    def address(self) -> str:
        """Where clients reach the service."""
        return f"127.0.0.1:{self._port}"

    def start_handlers(self) -> None:
        """Start the bank's write handler and read handler."""
        with self._progress.step("Starting the bank's write handler and read handler"):
            self._handlers = [
                ChildProcess([BANK, "write-handler", "--port", "0"], os.environ),
                ChildProcess(
                    [BANK, "read-handler", "--port", "0", "--database", str(self.balances)], os.environ
                ),
            ]
            lines = [
                handler.wait_for(lambda line: " listening on " in line, 30) for handler in self._handlers
            ]
            self._handler_ports = [int(line.rsplit(":", 1)[1]) for line in lines]

    def start(self) -> None:
        """Start `cos-ray serve` and return when it is ready."""
        self._service = ChildProcess(["cos_ray", "serve"], self._environment())
        with self._progress.step("Starting cos-ray serve"):
            line = self._service.wait_for(
                lambda line: line.startswith("Ray dashboard "), 90, meanwhile=self._show
            )
        self._dashboard = line.split()[-1]

    def stop(self) -> int:
        """Stop the service as an operator would; its exit status."""
        if self._service is None:
            raise ChildFailed("the service does not run")
        with self._progress.step("Stopping it by SIGTERM"):
            status = self._service.stop()
        self._service = None
        return status

    def stop_all(self) -> None:
        """Stop whatever runs."""
        if self._service is not None:
            self.stop()
        for handler in self._handlers:
            handler.stop()
        self._handlers = []

    def pid_of_entity(self, entity_id: str) -> int:
        """The process of an entity's actor, as `ray list actors` shows it."""
        from cos_ray.cluster.inspection import pids_of_entity

        pids = pids_of_entity(self._dashboard, self._token, EntityId(entity_id))
        if len(pids) != 1:
            raise ChildFailed(f"Ray lists {len(pids)} live actors named entity:{entity_id}")
        return pids[0]

    def _show(self, line: str) -> None:
        # Lines that begin so are from processes inside Ray, and no part of this story.
        if not line.startswith("("):
            self._progress.note(line)

    def _environment(self) -> dict[str, str]:
        write_port, read_port = self._handler_ports
        # Settings of the person's own shell would make another story of it.
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("COS_", "RAY_"))}
        return mine | {
            "RAY_AUTH_TOKEN": self._token,
            "COS_SERVICE_NAME": "bank",
            "COS_ADDRESS": "127.0.0.1",
            "COS_PORT": str(self._port),
            "COS_HTTP_PORT": str(self._http_port),
            "COS_DATA_DIR": str(self._directory / "data"),
            # Eight processes start at once below, on whatever machine this is.
            "COS_COMMAND_HANDLER_TIMEOUT": "30s",
            "COS_WRITE_SIDE_HOST": "127.0.0.1",
            "COS_WRITE_SIDE_PORT": str(write_port),
            "COS_READ_SIDE_ENABLED": "true",
            "COS_READ_SIDE_CONFIG__HOST__balances": "127.0.0.1",
            "COS_READ_SIDE_CONFIG__PORT__balances": str(read_port),
            "LOG_LEVEL": "ERROR",
        }

"""The service as its users run it: `cos-ray serve` in a process, on ports and data of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil

from cos_ray.cli.child_process import ChildProcess
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.system.free_port import free_port

BANK = "cos_ray.samples.bank"


def plain_environment() -> dict[str, str]:
    """This process's environment without what would configure the service or Ray, or slow its start down."""
    # Without bytecode, each of a service's processes would compile all of cos_ray anew.
    unwanted = ("COS_", "RAY_", "OTEL_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def dying_with_us() -> list[str]:
    """What stands between `python -m` and a Python process's arguments, to end it with this one."""
    return ["cos_ray.system.dies_with_parent", sys.executable]


class RunningService:
    """`cos-ray serve`, started and stopped as often as a test likes, on the same data."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        self.port, self.http_port = free_port(), free_port()
        self.environment = {
            **plain_environment(),
            "COS_ADDRESS": "127.0.0.1",
            "COS_PORT": str(self.port),
            "COS_HTTP_PORT": str(self.http_port),
            "COS_DATA_DIR": str(data_dir),
            # What one test has woken is not to slow down the next ones.
            "COS_PASSIVATION_IDLE_AFTER": "15s",
            # Other services start and end on the same machine meanwhile.
            "COS_COMMAND_HANDLER_TIMEOUT": "20",
            **settings,
        }
        self.output: list[str] = []
        self._process: ChildProcess | None = None
        self._family: dict[int, psutil.Process] = {}

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"127.0.0.1:{self.port}"

    @property
    def dashboard(self) -> str:
        """Where Ray shows its nodes and actors."""
        return self._told("Ray dashboard ")

    @property
    def ray_address(self) -> str:
        """Where other programs join its Ray cluster."""
        return self._told("Ray cluster ")

    @property
    def ray_token(self) -> str | None:
        """What lets a program into its Ray cluster: in the environment of its processes, and nowhere else."""
        (raylet,) = (process for process in family_of(self.pid).values() if process.name() == "raylet")
        return raylet.environ().get("RAY_AUTH_TOKEN")

    @property
    def metrics(self) -> str:
        """Where Prometheus finds what it counts."""
        return self._told("metrics ")

    @property
    def database_url(self) -> str:
        """The embedded database, for a look into the journal."""
        role, place = self._told("journal ").split("@")
        password = (Path(self.environment["COS_DATA_DIR"]) / "password").read_text()
        return f"postgresql://{role}:{password}@{place}"

    @property
    def pid(self) -> int:
        """The launcher's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it says that it is ready."""
        self.output = []
        # However this process ends, also by a signal that no fixture outlives.
        self._process = ChildProcess([*dying_with_us(), "-m", "cos_ray", "serve"], self.environment)
        self.output.append(
            self._process.wait_for(lambda line: line.startswith("Ray dashboard "), 90, self.output.append)
        )

    def stop(self, tell: Callable[[int], None] = lambda pid: os.kill(pid, signal.SIGTERM)) -> int:
        """Tell the launcher to stop, by SIGTERM unless otherwise; its exit status within 30 s."""
        assert self._process is not None
        self._family |= family_of(self.pid)
        tell(self.pid)
        status = self._process.wait(within=30)
        self._process = None
        return status

    def kill(self) -> None:
        """SIGKILL the launcher, and nothing else."""
        assert self._process is not None
        self._family |= family_of(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        self._process.stop()
        self._process = None

    def left_behind(self) -> list[str]:
        """What still runs, seconds later, of the processes it had when it was last ended."""
        _, alive = psutil.wait_procs(self._family.values(), timeout=30)
        return [describe(process) for process in alive]

    def end(self) -> None:
        """Make sure that nothing of it runs any more, whatever became of the test."""
        if self._process is not None and psutil.pid_exists(self.pid):
            self.stop()
        for process in self._family.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    @contextmanager
    def client(self) -> Iterator[ChiefOfStateServiceStub]:
        """A plain gRPC client."""
        with grpc.insecure_channel(self.address) as channel:
            yield ChiefOfStateServiceStub(channel)

    def _told(self, beginning: str) -> str:
        return next(line for line in self.output if line.startswith(beginning)).removeprefix(beginning)


class BankHandlers:
    """The sample's two handlers, each in its process."""

    def __init__(self, directory: Path) -> None:
        self.balances = directory / "balances.sqlite"
        self._processes = [
            ChildProcess([*dying_with_us(), "-m", BANK, *arguments, "--port", "0"], plain_environment())
            for arguments in (["write-handler"], ["read-handler", "--database", str(self.balances)])
        ]
        ports = [
            process.wait_for(lambda line: " listening on " in line, 30).rsplit(":", 1)[1]
            for process in self._processes
        ]
        self.settings = {
            "COS_WRITE_SIDE_HOST": "127.0.0.1",
            "COS_WRITE_SIDE_PORT": ports[0],
            "COS_READ_SIDE_ENABLED": "true",
            "COS_READ_SIDE_CONFIG__HOST__balances": "127.0.0.1",
            "COS_READ_SIDE_CONFIG__PORT__balances": ports[1],
        }

    def stop(self) -> None:
        """End both."""
        for process in self._processes:
            process.stop()


def serve_and_fail(settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `cos-ray serve` with settings it cannot go by, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "cos_ray", "serve"],
        env={**plain_environment(), **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )


def eventually(is_true: Callable[[], bool], within: float = 40.0) -> None:
    """Wait for a condition; fail after so many seconds."""
    deadline = time.monotonic() + within
    while not is_true():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.05)


def family_of(pid: int) -> dict[int, psutil.Process]:
    """Every process that one has started, and they in turn, as long as they are of its line."""
    return {process.pid: process for process in psutil.Process(pid).children(recursive=True)}


def describe(process: psutil.Process) -> str:
    """Its id and command line."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"{process.pid} (gone)"

"""A Ray cluster as an operator runs one: `ray start --head` in a process, on ports of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from cos_ray.cli.child_process import ChildProcess
from cos_ray.cluster.inspection import living_actors
from cos_ray.ray_internals.environment import ray_environment
from cos_ray.system.free_port import free_port
from tests.support.running_service import describe, dying_with_us, family_of, plain_environment


class RayHead:
    """A head node on the loopback; ended by the ids of its processes."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """`settings`: variables in place of those the service asks for."""
        # Not pytest's: the path of a Unix socket is limited to 107 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        # Not whatever token may be in the home directory.
        given = {**plain_environment(), "RAY_AUTH_MODE": "disabled", **(settings or {})}
        self._environment = {**given, **ray_environment(given, "cos_ray.handlers.grpc_write")}
        self._process: ChildProcess | None = None
        self._family: dict[int, psutil.Process] = {}
        port, dashboard_port = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        self.dashboard = f"http://127.0.0.1:{dashboard_port}"
        self._options = {
            "node-ip-address": "127.0.0.1",
            "port": port,
            "include-dashboard": "true",
            "dashboard-host": "127.0.0.1",
            "dashboard-port": dashboard_port,
            "dashboard-agent-listen-port": free_port(),
            "dashboard-agent-grpc-port": free_port(),
            "runtime-env-agent-port": free_port(),
            "metrics-export-port": free_port(),
            "ray-client-server-port": free_port(),
            "temp-dir": self._directory / "ray",
        }

    def start(self) -> None:
        """Start it, and return when it takes drivers."""
        options = [f"--{name}={value}" for name, value in self._options.items()]
        ray = ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
        self._process = ChildProcess([*dying_with_us(), *ray, *options], self._environment)
        self._process.wait_for(lambda line: "Ray runtime started" in line, 60)

    @property
    def environment(self) -> Mapping[str, str]:
        """What its processes were started with; another node's are to be started with the same."""
        return self._environment

    @property
    def token(self) -> str | None:
        """What lets a program in, if it takes that."""
        return self._environment.get("RAY_AUTH_TOKEN")

    @property
    def pid(self) -> int:
        """The process of `ray start`, which all others descend from."""
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[str]:
        """What runs in it."""
        return [describe(process) for process in family_of(self.pid).values()]

    def kill(self) -> None:
        """SIGKILL every process of it at once, where nobody minds how it ends: that takes no time."""
        if self._process is not None:
            self._family = family_of(self.pid)
            for process in self._family.values():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            # It would wait for what it has lost.
            self._process.stop(within=1)

    def end(self) -> None:
        """End every process of it."""
        if self._process is not None:
            self._family |= family_of(self.pid) if psutil.pid_exists(self.pid) else {}
            self._process.stop(within=20)
            for process in self._family.values():
                if process.is_running():
                    process.kill()
            psutil.wait_procs(self._family.values(), timeout=10)
        shutil.rmtree(self._directory, ignore_errors=True)


class RayWorkerNode:
    """Another node of a head's cluster, on this machine; ended by the ids of its processes."""

    def __init__(
        self,
        head: RayHead,
        name: str,
        settings: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        """`settings`: variables that it is started with beside the head's."""
        self._address = address
        self._head = head
        self._name = name
        self._settings = settings or {}
        self._process: ChildProcess | None = None
        self._family: dict[int, psutil.Process] = {}

    def start(self) -> None:
        """Start it, and return when it has joined."""
        options = {
            "address": self._head.address,
            "node-ip-address": self._address,
            "num-cpus": 2,
            "resources": json.dumps({self._name: 1}),
            "object-store-memory": 100_000_000,
            "dashboard-agent-listen-port": free_port(),
            "dashboard-agent-grpc-port": free_port(),
            "runtime-env-agent-port": free_port(),
            "metrics-export-port": free_port(),
        }
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        arguments = [f"--{name}={value}" for name, value in options.items()]
        environment = {**self._head.environment, **self._settings}
        self._process = ChildProcess(["cos_ray.system.dies_with_parent", *ray, *arguments], environment)
        self._process.wait_for(lambda line: "Ray runtime started" in line, 60)

    def pids(self) -> set[int]:
        """Every process of the node."""
        assert self._process is not None
        return set(family_of(self._process.pid))

    def kill(self) -> None:
        """SIGKILL every process of the node at once: what a machine's loss looks like to the others."""
        assert self._process is not None
        self._family |= family_of(self._process.pid)
        for process in self._family.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        # It would wait for what it has lost.
        self._process.stop(within=1)

    def end(self) -> None:
        """End every process of it."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.kill()
            psutil.wait_procs(self._family.values(), timeout=10)


@dataclass(frozen=True)
class LiveActor:
    """An actor, by the cluster's own account."""

    name: str
    namespace: str
    kind: str
    pid: int

    def kill(self) -> None:
        """SIGKILL its process."""
        os.kill(self.pid, signal.SIGKILL)


def live_actors(dashboard: str, beginning: str = "", token: str | None = None) -> list[LiveActor]:
    """The actors that live, of those whose names begin so; `token`: the cluster's, if it asks for one."""
    return [
        LiveActor(actor.name or "", actor.ray_namespace or "", actor.class_name, actor.pid)
        for actor in living_actors(dashboard, token)
        if actor.pid and (actor.name or "").startswith(beginning)
    ]

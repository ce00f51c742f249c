"""The service as `serve deploy` brings it up: a head and two more nodes, and nobody who launches it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import yaml

import cos_ray
from cos_ray.bootstrap.first_answer import wait_until_healthy
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.system.free_port import free_port
from tests.support.running_ray import LiveActor, RayHead, RayWorkerNode

CONFIGURATION = Path(__file__).parents[2] / "deploy/serve/cos_ray.yaml"


class DeployedService:
    """Our Serve configuration on a cluster of three nodes; looks to tests like a `RunningService`."""

    def __init__(
        self, data_dir: Path, settings: Mapping[str, object], nodes: Mapping[str, str] | None = None
    ) -> None:
        """`settings`: the application's; `nodes`: variables that Ray's nodes are started with."""
        self.port, self.http_port = free_port(), free_port()
        self.head = RayHead(nodes)
        self._workers = [RayWorkerNode(self.head, f"worker-{number}") for number in (1, 2)]
        self._data_dir = data_dir
        self._postgres = EmbeddedPostgres(data_dir)
        self._given = dict(settings)
        self._settings: dict[str, object] = {}
        self.database_url = ""

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"127.0.0.1:{self.port}"

    @property
    def dashboard(self) -> str:
        """Where Ray shows its nodes and actors."""
        return self.head.dashboard

    @property
    def ray_address(self) -> str:
        """Where other programs join its Ray cluster."""
        return self.head.address

    @property
    def ray_token(self) -> str | None:
        """What lets a program in, if it takes that."""
        return self.head.token

    def start(self) -> None:
        """Start all of it, and return when it answers."""
        database = self._postgres.start()
        self.database_url = f"postgresql://{database.user}:{database.password}@{database.host}:{database.port}/{database.name}"
        self._settings |= {
            "COS_DB_HOST": database.host,
            "COS_DB_PORT": str(database.port),
            "COS_DB_USER": database.user,
            "COS_DB_NAME": database.name,
            "COS_DB_PASSWORD_FILE": str(self._data_dir / "password"),
            # The nodes share this machine's ports.
            "COS_ADDRESS": "127.0.0.1",
            "COS_PORT": str(self.port),
            "COS_HTTP_PORT": str(self.http_port),
            "COS_INGRESS_DRAIN_DELAY": "1s",
            "COS_PASSIVATION_IDLE_AFTER": "15s",
            "COS_COMMAND_HANDLER_TIMEOUT": "20",
            # What the file says for applications at large, a test may want otherwise.
            **self._given,
        }
        self.head.start()
        for worker in self._workers:
            worker.start()
        self.deploy()
        self.wait_until("RUNNING")
        wait_until_healthy("127.0.0.1", self.port)

    def deploy(self, args: Mapping[str, object] | None = None, **application: object) -> None:
        """`serve deploy` of our file, with this test's ports and `args`, and changes to the application."""
        configuration: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
        # The nodes share this machine's ports.
        (ours,) = configuration["applications"]
        ours["args"] = {**ours["args"], **self._settings, **(args or {})}
        ours |= application
        path = self._data_dir.parent / "serve.yaml"
        path.write_text(yaml.safe_dump(configuration))
        self._serve("deploy", str(path))

    def status(self) -> tuple[str, str]:
        """The application's, and what Serve has to say about it."""
        told = yaml.safe_load(self._serve("status"))
        application = told["applications"].get("cos_ray") or {"status": "", "message": ""}
        return application["status"], application["message"]

    def wait_until(self, wanted: str, within: float = 120) -> str:
        """Return what Serve says when the application has this status; fail when it cannot come to it."""
        deadline = time.monotonic() + within
        while True:
            status, message = self.status()
            if status == wanted:
                return message
            failed = status in ("DEPLOY_FAILED", "UNHEALTHY") or time.monotonic() > deadline
            assert not failed, f"{status}: {message}"
            time.sleep(0.5)

    @contextmanager
    def client(self) -> Iterator[ChiefOfStateServiceStub]:
        """A plain gRPC client."""
        with grpc.insecure_channel(self.address) as channel:
            yield ChiefOfStateServiceStub(channel)

    def actors(self, beginning: str = "") -> list[LiveActor]:
        """The live actors whose names begin so; asked by a process that may ask."""
        program = (
            "import dataclasses, json; from tests.support.running_ray import live_actors; "
            f"found = live_actors({self.dashboard!r}, {beginning!r}); "
            "print(json.dumps([dataclasses.asdict(actor) for actor in found]))"
        )
        return [LiveActor(**each) for each in json.loads(self.run(program))]

    def run(self, program: str) -> str:
        """What a Python program prints that is started like the cluster's nodes."""
        completed = subprocess.run(
            [sys.executable, "-c", program],
            env=dict(self.head.environment),
            cwd=CONFIGURATION.parents[2],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    def end(self) -> None:
        """Make sure that nothing of it runs any more."""
        for worker in self._workers:
            worker.end()
        self.head.kill()
        self.head.end()
        self._postgres.stop()

    def _serve(self, *arguments: str) -> str:
        serve = Path(sys.executable).with_name("serve")
        completed = subprocess.run(
            [serve, *arguments, "--address", self.dashboard],
            env=dict(self.head.environment),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed.stdout


def newer_code(folder: Path) -> Path:
    """Another build of this package; where it is to be imported from."""
    package = Path(cos_ray.__file__).parent
    shutil.copytree(package, folder / "cos_ray", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "cos_ray/newer.py").write_text('"""What the older code had not."""\n')
    return folder

"""What README and docs tell their reader to do works, word for word, in an empty directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from cos_ray.system.free_port import free_port
from tests.e2e.readme import ROOT, Block, blocks, section
from tests.support.running_service import dying_with_us

PATIENCE = 120.0
"""How long to wait for anything, in seconds."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("README.md", "A first application"),
        ("docs/howto/write-handlers.md", "A shopping cart, over gRPC"),
        ("docs/howto/read-sides.md", "A bank with a read side"),
    ],
)
def test_pages_can_be_followed(page: str, title: str) -> None:
    script = blocks(section(page, title))
    assert {block.kind for block in script} >= {"run", "keep running", "prints"}
    with empty_directory() as directory, ExitStack() as processes:
        reader = Reader(directory, processes)
        for block in script:
            reader.follow(block)


def test_no_other_section_has_blocks_that_nobody_follows() -> None:
    followed = {"README.md": 1, "docs/howto/write-handlers.md": 1, "docs/howto/read-sides.md": 1}
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
        marked = sum("<!-- run" in part or "<!-- file" in part for part in parts)
        assert marked == followed.get(str(page.relative_to(ROOT)), 0), page


class Reader:
    """Follows a page block by block, but with free ports instead of those it names."""

    def __init__(self, directory: Path, processes: ExitStack) -> None:
        self._directory = directory / "application"
        self._directory.mkdir()
        self._logs = directory
        self._processes = processes
        self._ports = {port: str(free_port()) for port in ("50051", "50052", "9000", "9001")}
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(("COS_", "RAY_"))}
        self._environment = {
            **inherited,
            # As if the environment in which this test runs had been activated.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}",
            "COS_PORT": self._ports["9000"],
            "COS_HTTP_PORT": self._ports["9001"],
            "COS_DATA_DIR": str(directory / "data"),
            # Other services start and end on the same machine meanwhile.
            "COS_COMMAND_HANDLER_TIMEOUT": "20",
        }
        self._printed = ""
        self._again: Block | None = None
        """What to run until it prints what is expected."""

    def follow(self, block: Block) -> None:
        """Do what the block says."""
        block = Block(block.kind, block.how, self._with_free_ports(block.text))
        match block.kind, block.how:
            case "file", name:
                (self._directory / name).write_text(block.text, encoding="utf-8")
            case "run", "until it prints":
                self._again = block
            case "run", "" | "fails":
                self._run(block)
            case "keep running", "" | "cos-ray":
                self._start(block)
            case "prints", "":
                self._expect(block.text)
            case _:
                raise AssertionError(f"what does this mean: {block.kind}: {block.how}?")

    def _run(self, block: Block) -> None:
        self._printed = ""
        for variables, words in block.commands():
            done = subprocess.run(
                words,
                cwd=self._directory,
                env={**self._environment, **variables},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            self._printed += done.stdout
            if block.how != "until it prints":
                assert (done.returncode != 0) == (block.how == "fails"), done.stdout

    def _expect(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._again is not None and self._printed != text and time.monotonic() < deadline:
            self._run(self._again)
        self._again = None
        assert self._printed == text

    def _start(self, block: Block) -> None:
        [(variables, words)] = block.commands()
        log = self._logs / f"{Path(words[-1]).name}-{time.monotonic_ns()}.log"
        process = self._processes.enter_context(
            running(words, self._directory, {**self._environment, **variables}, log)
        )
        if block.how == "cos-ray":
            address = f"127.0.0.1:{self._ports['9000']}"
            wait_until(lambda: is_serving(address), process)
        else:
            wait_until(lambda: bool(log.read_text()), process)

    def _with_free_ports(self, text: str) -> str:
        for named, free in self._ports.items():
            text = text.replace(named, free)
        return text


@contextmanager
def running(
    words: list[str], directory: Path, environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped as a process manager would, and must then end by itself."""
    with log.open("wb") as output:
        program = shutil.which(words[0], path=environment["PATH"])
        assert program is not None, f"there is no {words[0]}"
        process = subprocess.Popen(
            [sys.executable, "-m", *dying_with_us()[:-1], program, *words[1:]],
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            status = process.wait(PATIENCE)
        finally:
            process.kill()
            # pytest shows this if the test fails.
            sys.stdout.write(f"--- {' '.join(words)}\n{log.read_text(errors='replace')}")
    # A script of the README may leave SIGTERM to Python, which dies of it.
    assert status == 0 or (status < 0 and words[0] == "python"), f"{words[0]} ended with {status}"


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Return once the condition holds; fail when the process has ended before."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < deadline, "the process is not ready"
        time.sleep(0.1)


def is_serving(address: str) -> bool:
    """Whether the health service at this address says so."""
    with grpc.insecure_channel(address) as channel:
        try:
            reply = HealthStub(channel).Check(HealthCheckRequest(), timeout=5)
        except grpc.RpcError:
            return False
    return bool(reply.status == HealthCheckResponse.SERVING)


@contextmanager
def empty_directory() -> Iterator[Path]:
    """A directory that any user can pass through: the embedded database runs as one of its own."""
    directory = Path(tempfile.mkdtemp(prefix="cos-ray-readme-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)

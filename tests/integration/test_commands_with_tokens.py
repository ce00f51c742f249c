"""`cos-ray status`, `resize` and `readside` at the service's own guard: who is let in, and what is said."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from typer.testing import CliRunner, Result

from cos_ray.cli import status
from cos_ray.cli.app import app
from cos_ray.domain.authorization import AccessPolicy, Caller, Rule
from cos_ray.ingress.admission import AdmissionPolicy
from cos_ray.protocol.pb.chief_of_state.v1.manager_pb2_grpc import (
    add_ReadSideManagerServiceServicer_to_server,
)
from cos_ray.protocol.pb.cos_ray.v1.operations_pb2_grpc import add_OperationsServiceServicer_to_server
from cos_ray.protocol.pb.cos_ray.v1.readsides_pb2_grpc import add_ReadSideServiceServicer_to_server
from tests.support.server_in_a_thread import ServerInAThread
from tests.unit.test_ingress import Context, Gateway, ingress

OPERATOR, SHOP = "the operator's token", "the shop's token"
ACCESS = AccessPolicy(
    {
        hashlib.sha256(OPERATOR.encode()).hexdigest(): Caller("ops", (Rule(("*",)),)),
        hashlib.sha256(SHOP.encode()).hexdigest(): Caller("shop", (Rule(("ProcessCommand",)),)),
    }
)
COMMANDS = [["status"], ["resize", "2"], ["readside", "status"]]


@dataclass
class Door:
    """The service's methods behind a gRPC server, which hands them a context as Serve's is."""

    admission: AdmissionPolicy
    given: list[Any] = field(default_factory=list)
    """What each call gave as its authorization."""
    echoes: bool = False
    """Whether refusals quote what they were given, as a careless gateway's might."""

    async def open(self) -> None:
        self._ingress = await ingress(Gateway(), admission=self.admission)

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            metadata = list(context.invocation_metadata() or ())
            self.given.append([value for key, value in metadata if key == "authorization"])
            ours = Context(metadata)
            reply = await getattr(self._ingress, name)(request, ours)
            if ours.code is not None:
                quoted = f"\n{self.given[-1]}" if self.echoes else ""
                await context.abort(ours.code, ours.details + quoted)
            return reply

        return call


class Server(ServerInAThread):
    """A service that is guarded so."""

    def __init__(self, admission: AdmissionPolicy) -> None:
        super().__init__(
            add_OperationsServiceServicer_to_server,
            add_ReadSideManagerServiceServicer_to_server,
            add_ReadSideServiceServicer_to_server,
        )
        self.door = Door(admission)

    @asynccontextmanager
    async def methods(self) -> AsyncIterator[Door]:
        await self.door.open()
        yield self.door


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "BETWEEN_LOOKS", 0.01)
    for name in os.environ:
        if name.startswith("COS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(AdmissionPolicy(access=ACCESS)) as server:
        yield server


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{OPERATOR}\n")
    return path


def cos_ray(port: int, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--port", str(port)], env=environment)


def is_one_line(done: Result) -> bool:
    return (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_token_lets_in_from_a_file_or_from_the_environment(
    server: Server, token_file: Path, command: list[str]
) -> None:
    by_option = cos_ray(server.port, *command, "--token-file", str(token_file))
    by_file = cos_ray(server.port, *command, COS_TOKEN_FILE=str(token_file))
    by_itself = cos_ray(server.port, *command, COS_TOKEN=f" {OPERATOR} ")
    for done in (by_option, by_file, by_itself):
        assert (done.exit_code, done.stderr) == (0, "")
        assert OPERATOR not in done.output
    # Once with each call, and without the line's end.
    assert server.door.given
    assert all(given == [f"Bearer {OPERATOR}"] for given in server.door.given)


def test_the_option_is_sent_and_not_what_the_environment_says(server: Server, token_file: Path) -> None:
    done = cos_ray(server.port, "status", "--json", "--token-file", str(token_file), COS_TOKEN=SHOP)
    assert (done.exit_code, json.loads(done.stdout)["service"]) == (0, "bank")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_token_a_line_says_how_to_give_one(server: Server, command: list[str]) -> None:
    done = cos_ray(server.port, *command)
    assert is_one_line(done)
    assert done.stderr.startswith("UNAUTHENTICATED: the service asks for a token, and none was sent")
    for word in ("--token-file", "COS_TOKEN_FILE", "COS_TOKEN"):
        assert word in done.stderr
    assert server.door.given == [[]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_token_that_is_not_accepted_is_named_by_where_it_was_found(
    server: Server, tmp_path: Path, command: list[str]
) -> None:
    path = tmp_path / "wrong"
    path.write_text("somebody else's")
    for done, source in (
        (cos_ray(server.port, *command, "--token-file", str(path)), f"--token-file {str(path)!r}"),
        (cos_ray(server.port, *command, COS_TOKEN_FILE=str(path)), f"COS_TOKEN_FILE {str(path)!r}"),
        (cos_ray(server.port, *command, COS_TOKEN="somebody else's"), "COS_TOKEN"),
    ):
        assert is_one_line(done)
        assert done.stderr.startswith("UNAUTHENTICATED: the token is not valid: ")
        assert f"does not accept the one of {source};" in done.stderr
        assert "somebody" not in done.stderr


@pytest.mark.parametrize(
    ("command", "method"),
    [*zip(COMMANDS, ["GetServiceStatus", "ResizeShardHosts", "GetReadSideStatus"], strict=True)],
)
def test_what_no_rule_allows_is_told_with_the_method(server: Server, command: list[str], method: str) -> None:
    done = cos_ray(server.port, *command, COS_TOKEN=SHOP)
    assert is_one_line(done)
    assert done.stderr.startswith(f"PERMISSION_DENIED: this caller may not call {method} for that: no rule")
    assert "the token of COS_TOKEN;" in done.stderr
    assert SHOP not in done.stderr


def test_a_refusal_that_quotes_the_token_is_shown_without_it_and_on_one_line(server: Server) -> None:
    server.door.echoes = True
    done = cos_ray(server.port, "readside", "status", COS_TOKEN=SHOP)
    assert is_one_line(done)
    assert "Bearer ******" in done.stderr
    assert SHOP not in done.stderr


def test_a_service_that_lets_in_anybody_needs_no_token_and_minds_none() -> None:
    with Server(AdmissionPolicy()) as server:
        assert cos_ray(server.port, "readside", "status").exit_code == 0
        assert cos_ray(server.port, "readside", "status", COS_TOKEN="any").exit_code == 0


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_service_that_answers_over_http_alone_is_told_from_one_that_is_away(command: list[str]) -> None:
    with Server(AdmissionPolicy(grpc=False, access=ACCESS)) as server:
        done = cos_ray(server.port, *command, COS_TOKEN=OPERATOR)
    assert is_one_line(done)
    assert "answers over HTTP alone, and this command speaks gRPC" in done.stderr
    assert "COS_SERVER_PROTOCOL=both" in done.stderr


class Silent(BaseHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None: ...


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_port_for_http_is_told_from_one_where_nothing_listens(command: list[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as http:
        serving = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        done = cos_ray(http.server_port, *command)
        http.shutdown()
    assert is_one_line(done)
    assert "does not speak gRPC" in done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = taken.getsockname()[1]
        away = cos_ray(nobody, *command)
    assert (away.exit_code, away.output) == (1, f"no service answers at 127.0.0.1:{nobody}\n")

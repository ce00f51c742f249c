"""Traces and logs of a whole service: what a collector of either gets, and what neither ever does."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.any import pack

from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Deposit, OpenAccount, Withdraw
from tests.support.otlp import Collector, Received, collecting
from tests.support.running_service import BankHandlers, RunningService, eventually, family_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
API_KEY = "api-key-of-the-collector"
TOKEN = "token-of-a-client"
OWNER = "a-payload-of-an-application"
SERVICE = "chief_of_state.v1"
COMMAND = f"{SERVICE}.ChiefOfStateService/ProcessCommand"
AUTHORIZATION = ("authorization", f"Bearer {TOKEN}")


@dataclass
class Observed:
    """A service, its collector, and what it has written."""

    service: RunningService
    collector: Collector
    lines: list[str] = field(default_factory=list)

    def until(self, fact: str) -> dict[str, Any]:
        """The next log line that holds this text."""
        assert self.service._process is not None
        line = self.service._process.wait_for(lambda line: fact in line, 30, self.lines.append)
        self.lines.append(line)
        found: dict[str, Any] = json.loads(line)
        return found

    def command(self, account: str, command: Any, *metadata: tuple[str, str]) -> None:
        """Run a command over gRPC."""
        with self.service.client() as client:
            request = ProcessCommandRequest(entity_id=account, command=pack(command))
            client.ProcessCommand(request, timeout=30, metadata=[AUTHORIZATION, *metadata])

    def spans(self, trace: str) -> dict[str, Received]:
        """The spans of a trace that have arrived, by their names."""
        return {span.name: span for span in self.collector.spans if span.trace_id == trace}


@pytest.fixture(scope="module")
def observed(handlers: BankHandlers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """One service for all tests here."""
    directory: Path = tmp_path_factory.mktemp("telemetry")
    access = directory / "access.yaml"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    access.write_text(
        f"tokens: [{{name: shop, token_sha256: {digest}, allow: [{{methods: ['*'], entities: ['']}}]}}]"
    )
    with collecting() as collector:
        settings = {
            **handlers.settings,
            "COS_SERVER_PROTOCOL": "both",
            "COS_AUTH_FILE": str(access),
            "LOG_LEVEL": "DEBUG",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={API_KEY}",
            "OTEL_PROPAGATORS": "tracecontext,b3",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        service = RunningService(directory / "data", settings)
        try:
            service.start()
            # However long the first process takes to start.
            seen = Observed(service, collector)
            eventually(lambda: _opened(seen, "first"), 60)
            yield seen
        finally:
            service.end()


def _opened(observed: Observed, account: str) -> bool:
    try:
        observed.command(account, OpenAccount(owner=OWNER))
    except grpc.RpcError as error:
        return bool(error.code() is grpc.StatusCode.ALREADY_EXISTS)
    return True


def test_a_command_is_one_trace_and_its_delivery_links_to_it(observed: Observed) -> None:
    observed.command("first", Deposit(amount=5), ("traceparent", f"00-{TRACE}-{CALLER}-01"))
    wanted = {
        COMMAND,
        "entity process",
        f"{SERVICE}.WriteSideHandlerService/HandleCommand",
        f"{SERVICE}.WriteSideHandlerService/HandleEvent",
        "journal append",
    }
    eventually(lambda: wanted <= observed.spans(TRACE).keys())
    spans = observed.spans(TRACE)
    received, entity = spans[COMMAND], spans["entity process"]
    assert received.parent_id == CALLER
    assert entity.parent_id == received.span_id
    for name in wanted - {COMMAND, "entity process"}:
        assert spans[name].parent_id == entity.span_id
    assert (received.resource["cos.part"], entity.resource["cos.part"]) == ("ingress", "entity")
    assert {span.resource["service.name"] for span in spans.values()} == {"chiefofstate"}

    cause = (TRACE, received.span_id)
    eventually(lambda: any(cause in span.links for span in observed.collector.named("deliver balances")))
    assert observed.collector.headers[-1]["api-key"] == API_KEY


def test_a_command_over_http_is_traced_by_b3_too(observed: Observed) -> None:
    trace = TRACE[::-1]
    body = {"command": base64.b64encode(pack(Deposit(amount=5)).SerializeToString()).decode()}
    request = urllib.request.Request(
        f"http://127.0.0.1:{observed.service.http_port}/v1/commands/first/process",
        json.dumps(body).encode(),
        {"content-type": "application/json", "b3": f"{trace}-{CALLER}-1", "Authorization": f"Bearer {TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.status == 200
    name = "POST /v1/commands/{entity_id}/process"
    eventually(lambda: {name, "journal append"} <= observed.spans(trace).keys())
    received = observed.spans(trace)[name]
    assert received.parent_id == CALLER
    assert received.attributes["http.response.status_code"] == 200
    # Once: the library for the routes would trace requests as well.
    names = [span.name for span in observed.collector.spans if span.trace_id == trace]
    assert [each for each in names if each.startswith("POST")] == [name]


def test_each_process_writes_its_lines_to_the_launchers_error_output(observed: Observed) -> None:
    trace = "1" * 32
    observed.command("second", OpenAccount(owner=OWNER), ("traceparent", f"00-{trace}-{CALLER}-01"))
    with pytest.raises(grpc.RpcError):
        observed.command("second", Withdraw(amount=10**9))
    line = observed.until("entity recovered")
    while line["entity_id"] != "second":
        line = observed.until("entity recovered")
    assert (line["service"], line["revision"]) == ("chiefofstate", 0)
    assert line["trace_id"] == trace
    assert "EntityActor" in line["process"]


def test_every_line_is_one_object_and_none_tells_a_payload_or_a_secret(observed: Observed) -> None:
    service, process = observed.service, observed.service._process
    assert process is not None
    database = (Path(service.environment["COS_DATA_DIR"]) / "password").read_text()
    session = _session_of(service.pid)
    service.stop()
    while (line := process._lines.get(timeout=30)) is not None:
        observed.lines.append(line)
    shown = [line for line in observed.lines if not line.startswith(("✓", "ok"))]
    for line in shown:
        content = json.loads(line)
        assert {"message", "level", "service", "timestamp"} <= content.keys(), line
    everything = "\n".join(observed.lines + service.output)
    for file in [each for each in session.rglob("*") if each.is_file() and each.suffix != ".sock"]:
        everything += file.read_text(errors="replace")
    for secret in (API_KEY, TOKEN, OWNER, database):
        assert secret not in everything, secret


def _session_of(pid: int) -> Path:
    """Where Ray keeps what the processes write."""
    for process in family_of(pid).values():
        try:
            arguments = process.cmdline()
        except psutil.Error:
            continue
        for argument in arguments:
            if argument.startswith(("--log_dir=", "--logs-dir=")):
                return Path(argument.partition("=")[2])
    raise AssertionError("no Ray there")

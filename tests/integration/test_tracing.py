"""Traces on the wire: to a collector, to handlers of each kind, and in the journal's tables."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import trace

from cos_ray import CommandMeta, Meta
from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.config.settings import Settings
from cos_ray.config.trace_settings import trace_variables
from cos_ray.domain.ids import CommandId, EntityId
from cos_ray.domain.messages import Header
from cos_ray.domain.trace_ids import Trace, traced_id
from cos_ray.handlers.endpoints import PythonEndpoint
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, AccountOpened, OpenAccount
from cos_ray.telemetry.meters import Meters
from cos_ray.telemetry.trace_context import continuing
from tests.integration.test_grpc_read_handler import Server, envelope
from tests.support.handler import GrpcStage, HttpStage, Stage, ask, evolve, packed
from tests.support.journal import append_of, read_all
from tests.support.otlp import Collector, collecting
from tests.support.trace import CALLER, TRACE, Recorded, parent_of, span_id

CLIENT = Trace(f"00-{TRACE}-{CALLER}-01")
SECRET = "s3cret-api-key"

PROGRAM = """
import logging, sys
from cos_ray.telemetry.logs import configure_logs
from cos_ray.telemetry.traces import TraceSettings
configure_logs("DEBUG", "JSON", "bank")
tracing = TraceSettings(VARIABLES).apply("test")
assert tracing is not None
with tracing.step("a step"):
    logging.getLogger("cos_ray").info("within")
tracing.flush()
"""

JUST_ENDS = PROGRAM.replace("tracing.flush()\n", "")


def exported(source: str = PROGRAM, /, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a process of the service does, told so by these variables."""
    settings = Settings.from_environment(variables)
    told = trace_variables(settings.traces, variables, "bank")
    assert told is not None
    program = source.replace("VARIABLES", repr(tuple(told.items())))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_spans_get_to_the_collector_by_either_protocol(collector: Collector, protocol: str) -> None:
    collector.spans.clear()
    endpoint = collector.endpoint if protocol == "grpc" else collector.http_endpoint
    ended = exported(
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_HEADERS=f"api-key={SECRET}",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
    )
    assert ended.returncode == 0, ended.stderr
    (span,) = collector.spans
    assert span.name == "a step"
    assert span.resource["service.name"] == "bank"
    assert span.resource["deployment.environment.name"] == "test"
    assert span.resource["cos.part"] == "test"
    assert collector.headers[-1]["api-key"] == SECRET
    assert span.trace_id in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_a_name_in_the_variables_wins_and_a_sampler_is_obeyed(collector: Collector) -> None:
    collector.spans.clear()
    ended = exported(OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, OTEL_SERVICE_NAME="till")
    assert ended.returncode == 0, ended.stderr
    assert [span.resource["service.name"] for span in collector.spans] == ["till"]
    exported(OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, OTEL_TRACES_SAMPLER="always_off")
    assert len(collector.spans) == 1


def test_a_collector_that_is_away_harms_nobody_and_learns_no_secret() -> None:
    ended = exported(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_HEADERS=f"api-key={SECRET}",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    assert ended.returncode == 0, ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_a_process_that_just_ends_sends_what_it_has(collector: Collector) -> None:
    collector.spans.clear()
    ended = exported(JUST_ENDS, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
    assert (ended.returncode, len(collector.spans)) == (0, 1), ended.stderr


@contextmanager
def deaf(*, accepts: bool) -> Iterator[str]:
    """A collector that takes connections and says nothing, or one that does not even take them."""
    with ExitStack() as sockets:
        listening = sockets.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        # Accepted or not: the system takes as many as fit in the queue, and drops the packets of more.
        listening.listen(16 if accepts else 0)
        for _ in range(0 if accepts else 4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize(("program", "accepts"), [(PROGRAM, True), (JUST_ENDS, False)])
def test_the_end_of_a_process_does_not_wait_for_a_collector_that_never_answers(
    protocol: str, program: str, accepts: bool
) -> None:
    with deaf(accepts=accepts) as endpoint:
        # Beyond the time that this process is given: waiting for one batch would be too long.
        ended = exported(
            program,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="600",
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("traces are lost: the collector did not take them in time") == 1


@pytest.mark.parametrize("stage", [GrpcStage(), HttpStage()], ids=["grpc", "http"])
async def test_write_handlers_are_told_of_the_span_that_calls_them(stage: Any) -> None:
    recorded = Recorded("tracecontext,b3multi")
    async with stage.listening() as port:
        target = stage.target("127.0.0.1", port)
        handler = build_write_handler(target, timedelta(seconds=30), None, Meters(), recorded.tracing)
        with continuing(CLIENT), recorded.tracing.step("entity process"):
            propagated = (Header("traceparent", "the client's"), Header("x-user", "ada"))
            await ask(handler, headers=propagated)
            await evolve(handler, AccountOpened(owner="Ada"))
        await handler._handler.close()  # type: ignore[attr-defined]
    entity, *calls = sorted(recorded.spans, key=lambda span: span.start_time or 0)
    assert [parent_of(call) for call in calls] == [span_id(entity)] * 2
    assert isinstance(stage, Stage)
    for call, headers in zip(calls, stage.headers, strict=True):
        assert [v for k, v in headers if k == "traceparent"] == [f"00-{TRACE}-{span_id(call):016x}-01"]
        assert dict(headers)["x-b3-spanid"] == f"{span_id(call):016x}"
    assert dict(stage.headers[0])["x-user"] == "ada"
    assert calls[0].attributes is not None
    assert calls[0].attributes["server.port"] == port


class TracedBank:
    """A write handler that knows which span it runs in."""

    async def handle_command(
        self, command: OpenAccount, prior_state: Account | None, meta: CommandMeta
    ) -> list[AccountOpened]:
        return [AccountOpened(owner=f"{trace.get_current_span().get_span_context().span_id:016x}")]

    def handle_event(self, event: AccountOpened, prior_state: Account | None, meta: Meta) -> Account:
        # In a thread.
        return Account(owner=f"{trace.get_current_span().get_span_context().span_id:016x}")


async def test_python_handlers_run_in_the_span_that_calls_them() -> None:
    recorded = Recorded()
    target = PythonEndpoint("tests.integration.test_tracing:TracedBank")
    handler = build_write_handler(target, timedelta(seconds=30), None, Meters(), recorded.tracing)
    with continuing(CLIENT), recorded.tracing.step("entity process"):
        decision = await ask(handler)
        state = await evolve(handler, AccountOpened(owner="Ada"))
    of_command, of_event = (f"{span_id(recorded.one(n)):016x}" for n in ("handle_command", "handle_event"))
    assert decision.events == (packed(AccountOpened(owner=of_command)),)  # type: ignore[union-attr]
    assert state == packed(Account(owner=of_event))


async def test_read_handlers_are_told_of_the_delivery() -> None:
    from cos_ray.domain.ids import ReadSideId, Shard
    from cos_ray.handlers.endpoints import GrpcEndpoint
    from cos_ray.handlers.grpc_read import GrpcReadHandler
    from cos_ray.telemetry.traced_events import traced_read_handler

    recorded, server = Recorded(), Server()
    async with server.listening() as port:
        caller = GrpcReadHandler(
            GrpcEndpoint("127.0.0.1", port), timedelta(seconds=10), recorded.tracing.outgoing
        )
        event = replace(envelope(), cause=CLIENT.parent)
        await traced_read_handler(caller, recorded.tracing).handle(ReadSideId("books"), Shard(0), event)
        await traced_read_handler(caller, recorded.tracing).handle(ReadSideId("books"), Shard(0), envelope())
        await caller.close()
    delivery = recorded.one("deliver books")
    assert f"{span_id(delivery):016x}" in server.metadata[0]["traceparent"]
    assert "traceparent" not in server.metadata[1]
    assert delivery.links[0].context.trace_id == int(TRACE, 16)


async def test_the_journal_keeps_a_cause_and_tells_it_with_the_event(
    postgres_journal: PostgresJournal,
) -> None:
    traced = replace(append_of("a", 0, 2), command_id=traced_id(CommandId("one"), CLIENT))
    await postgres_journal.append(traced)
    await postgres_journal.append(append_of("b", 0))
    causes = {
        (event.envelope.meta.entity_id, event.envelope.meta.revision): event.envelope.cause
        for event in await read_all(postgres_journal)
    }
    assert causes == {("a", 1): CLIENT.parent, ("a", 2): CLIENT.parent, ("b", 1): None}
    # A command that is looked up, is by the whole of its id.
    assert await postgres_journal.stored_by(EntityId("a"), traced.command_id) is not None
    assert await postgres_journal.append(traced) > 0

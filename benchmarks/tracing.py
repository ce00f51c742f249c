"""
What traces cost a command: the processor's time, switched off, and with some or all commands recorded.

    uv run python -m benchmarks.tracing [--rounds 15] [--commands 2000] [--entities 32]

The write side without Ray and database: the ingress's method, the router, the hop as bytes, the entity,
and a write handler behind gRPC in a process of its own, on a journal in memory. Recorded traces are
exported to a collector in another process. All ways take turns, many times, so that what else the machine
does meets all alike; a figure is the median of the rounds, a difference that of the rounds' differences.
Ray and Postgres, which a command passes as well, are not in it: of the whole service's
processor time the share is smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.any import pack
from google.protobuf.message import Message
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.cli.child_process import ChildProcess
from cos_ray.domain.ids import EntityId, Offset, Shard
from cos_ray.domain.messages import Append, Command, Reply
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.handlers.endpoints import GrpcEndpoint
from cos_ray.ingress.admission import AdmissionPolicy
from cos_ray.ingress.command_policy import CommandPolicy
from cos_ray.ingress.service import Ingress
from cos_ray.ports import EntityGateway, Journal
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest
from cos_ray.readside.management import ReadSideManagement
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Deposit, OpenAccount
from cos_ray.system.clock import SystemClock
from cos_ray.telemetry.otel import Tracing
from cos_ray.telemetry.trace_setup import build_propagator
from cos_ray.telemetry.traced_commands import TracedGateway, TracedJournal, traced_run
from cos_ray.testing.journal import MemoryJournal
from cos_ray.transport.batching import Batch
from cos_ray.transport.encoding import batch_from_bytes, batch_to_bytes
from cos_ray.writeside.entity import Entity
from cos_ray.writeside.router import Router

WAYS: dict[str, float | None] = {"off": None, "0 %": 0.0, "10 %": 0.1, "100 %": 1.0}
"""How many commands are recorded."""

HOME = Assignment(1, 16, (HostId("0"),))


@dataclass
class Context:
    """What Serve hands to a method."""

    told: Any = None

    def code(self) -> Any:
        return self.told

    def set_code(self, code: Any) -> None:
        self.told = code

    def set_details(self, details: str) -> None: ...

    def set_trailing_metadata(self, trailing_metadata: object) -> None: ...

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [("user-agent", "grpc-python/1.85.1"), ("x-request-id", "0af7651916cd43dd")]


@dataclass
class Parts:
    """What the ingress needs for commands."""

    gateway: EntityGateway
    tracing: Tracing | None
    policy: CommandPolicy = field(default_factory=lambda: CommandPolicy(60.0))
    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    subscriptions: None = None
    read_sides: ReadSideManagement | None = None
    checks: dict[str, Any] = field(default_factory=dict)


class ShortMemory(MemoryJournal):
    """Forgets each event at once: entities know where they are, and a round costs what the first one did."""

    async def append(self, append: Append) -> Offset:
        return Offset(append.expected + 1)

    async def newest(self, entity_id: EntityId) -> None:
        return None


class Hop:
    """Takes commands to their entities as bytes, as they travel to a shard host."""

    def __init__(self, handler: Any, tracing: Tracing | None) -> None:
        self._handler = handler
        self._tracing = tracing
        self._journal: Journal = ShortMemory()
        if tracing is not None:
            self._journal = TracedJournal(self._journal, tracing)
        self._run = self._process if tracing is None else traced_run(self._process, tracing)
        self._entities: dict[EntityId, Entity] = {}

    async def ask(self, command: Command) -> Reply:
        _, batch = batch_from_bytes(batch_to_bytes(HOME, Batch([(1, command)])))
        # In a task of its own, which in another process knows nothing of the client.
        return await asyncio.get_running_loop().create_task(self._run(batch.requests[0][1]))

    async def _process(self, command: Command) -> Reply:
        entity = self._entities.get(command.entity_id)
        if entity is None:
            entity = self._entities[command.entity_id] = Entity(
                command.entity_id, Shard(0), self._handler, self._journal, SystemClock()
            )
        return await entity.process(command)


async def ingress_of(port: int, ratio: float | None, collector: str) -> Ingress:
    """A whole write side that records so many commands."""
    tracing = None
    if ratio is not None:
        provider = TracerProvider(ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(collector, insecure=True)))
        tracing = Tracing(provider, build_propagator("tracecontext,baggage"))
    handler = build_write_handler(GrpcEndpoint("127.0.0.1", port), timedelta(seconds=60), None, tracing)
    gateway: EntityGateway = Router(Hop(handler, tracing), MemoryJournal(), SystemClock())
    if tracing is not None:
        gateway = TracedGateway(gateway)

    async def build() -> Parts:
        return Parts(gateway, tracing)

    one = Ingress.__new__(Ingress)
    await one.__init__(build)  # type: ignore[misc]
    return one


async def run(one: Ingress, entity_id: str, message: Message) -> None:
    context = Context()
    await one.ProcessCommand(ProcessCommandRequest(entity_id=entity_id, command=pack(message)), context)
    assert context.told is None, context.told


async def measure(one: Ingress, entities: Sequence[str], commands: int) -> float:
    """CPU of this process for a command, in microseconds."""

    async def deposits(entity_id: str) -> None:
        for _ in range(commands // len(entities)):
            await run(one, entity_id, Deposit(amount=1))

    gc.collect()
    begun = time.process_time()
    await asyncio.gather(*map(deposits, entities))
    return (time.process_time() - begun) / (commands // len(entities) * len(entities)) * 1e6


async def main(rounds: int, commands: int, entities: int) -> None:
    handler = ChildProcess(["cos_ray.samples.bank", "write-handler", "--port", "0"], os.environ)
    collector = ChildProcess(["benchmarks.tracing", "--collector"], os.environ)
    try:
        port = int(handler.wait_for(lambda line: " listening on " in line, 60).rsplit(":", 1)[1])
        address = collector.wait_for(lambda line: ":" in line, 60)
        ids = [f"account-{number}" for number in range(entities)]
        ways = {name: await ingress_of(port, ratio, address) for name, ratio in WAYS.items()}
        for one in ways.values():
            await asyncio.gather(*(run(one, id_, OpenAccount(owner="Ada")) for id_ in ids))
        measured: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            # Each way is the first as often as it is the last.
            names = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
            for name in names:
                figure = await measure(ways[name], ids, commands)
                if number:
                    measured[name].append(figure)
        print(f"{rounds} rounds of {commands} commands, {entities} entities at once; CPU here, us a command")
        off = measured["off"]
        for name, figures in measured.items():
            more = [figure - base for figure, base in zip(figures, off, strict=True)]
            share = statistics.median(more) / statistics.median(off)
            print(
                f"{name:>6}  {statistics.median(figures):7.1f}  ({min(figures):.1f}..{max(figures):.1f})"
                f"  {statistics.median(more):+7.1f} us  {share:+.1%}"
            )
    finally:
        handler.stop()
        collector.stop()
    sys.stdout.flush()
    os._exit(0)  # exporters would go on trying


def collect() -> None:
    """Take traces in, and forget them."""

    class Sink(TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            return ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Sink(), server)
    print(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--commands", type=int, default=2000)
    parser.add_argument("--entities", type=int, default=32)
    parser.add_argument("--collector", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.collector:
        collect()
    else:
        asyncio.run(main(given.rounds, given.commands, given.entities))

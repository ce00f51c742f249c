"""A command's trace: taken over from its client, carried through the hop, handed on, found with its event."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from cos_ray.domain.errors import Code, DeliveryFailed, HandlerFailed, Status
from cos_ray.domain.ids import CommandId, Offset, ReadSideId, Shard
from cos_ray.domain.messages import EventEnvelope, Header
from cos_ray.domain.trace_ids import Trace, cause_of, traced_id
from cos_ray.handlers.trace_headers import with_trace
from cos_ray.telemetry import logs
from cos_ray.telemetry.logs import configure_logs, note_in_lines
from cos_ray.telemetry.trace_context import ids
from cos_ray.telemetry.traced_events import traced_read_handler
from cos_ray.testing.journal import Fault
from tests.support.trace import (
    CALLER,
    SAMPLED,
    TRACE,
    UNSAMPLED,
    Flow,
    Recorded,
    ServeContext,
    flow,
    parent_of,
    span_id,
    trace_of,
)
from tests.unit.test_ingress import ingress, request

SERVICE = "chief_of_state.v1.ChiefOfStateService"
BOOKS = ReadSideId("books")


async def processed(way: Flow, *metadata: tuple[str, str | bytes]) -> ServeContext:
    """A command, as Serve gives it to the ingress."""
    context = ServeContext([*metadata])
    one = await ingress(way.gateway, tracing=way.recorded.tracing)  # type: ignore[arg-type]
    await one.ProcessCommand(request(), context)
    return context


async def event_of(way: Flow) -> EventEnvelope:
    """The event that the command led to, as read sides find it."""
    (event,) = await way.journal.after(Shard(0), Offset(0), 10)
    return event.envelope


async def test_a_command_is_one_trace_from_the_client_to_handler_and_journal() -> None:
    way = flow(Recorded())
    await processed(way, SAMPLED)
    received, entity = way.recorded.one(f"{SERVICE}/ProcessCommand"), way.recorded.one("entity process")
    assert {trace_of(span) for span in way.recorded.spans} == {TRACE}
    assert f"{parent_of(received):016x}" == CALLER
    assert parent_of(entity) == span_id(received)
    for name in ("journal newest", "HandleCommand", "HandleEvent", "journal append"):
        assert parent_of(way.recorded.one(name)) == span_id(entity)
    assert received.kind is SpanKind.SERVER
    assert dict(received.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": "ProcessCommand",
        "rpc.grpc.status_code": 0,
    }
    assert dict(entity.attributes or {}) == {
        "cos.entity.id": "a",
        "cos.outcome": "accepted",
        "cos.entity.revision": 1,
    }
    assert way.recorded.one("HandleCommand").kind is SpanKind.CLIENT
    assert (way.recorded.one("journal append").attributes or {})["db.system.name"] == "postgresql"


async def test_handlers_are_called_within_their_own_spans() -> None:
    way = flow(Recorded())
    await processed(way, SAMPLED)
    calls = [way.recorded.one("HandleCommand"), way.recorded.one("HandleEvent")]
    assert way.handler.heard == [{"traceparent": f"00-{TRACE}-{span_id(span):016x}-01"} for span in calls]


@pytest.mark.parametrize("propagators", ["b3", "b3multi"])
async def test_b3_comes_in_and_goes_out(propagators: str) -> None:
    way = flow(Recorded(propagators))
    single = ("b3", f"{TRACE}-{CALLER}-1")
    multi = [("x-b3-traceid", TRACE), ("x-b3-spanid", CALLER), ("x-b3-sampled", "1")]
    await processed(way, *([single] if propagators == "b3" else multi))
    call = way.recorded.one("HandleCommand")
    assert trace_of(call) == TRACE
    names = {"b3"} if propagators == "b3" else {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}
    heard = way.handler.heard[0]
    assert set(heard) == names
    assert f"{span_id(call):016x}" in "".join(map(str, heard.values()))


async def test_without_propagators_a_trace_begins_here_and_still_gets_to_the_entity() -> None:
    way = flow(Recorded("none"))
    await processed(way, SAMPLED)
    received = way.recorded.one(f"{SERVICE}/ProcessCommand")
    assert trace_of(received) != TRACE
    assert parent_of(way.recorded.one("entity process")) == span_id(received)
    assert way.handler.heard == [{}, {}]


async def test_what_the_client_has_not_sampled_is_passed_on_and_not_recorded() -> None:
    way = flow(Recorded())
    await processed(way, UNSAMPLED, ("tracestate", "a=1"), ("baggage", "tenant=7"))
    assert way.recorded.spans == ()
    for heard in way.handler.heard:
        assert str(heard["traceparent"]).startswith(f"00-{TRACE}-")
        assert str(heard["traceparent"]).endswith("-00")
        assert (heard["tracestate"], heard["baggage"]) == ("a=1", "tenant=7")
    assert (await event_of(way)).cause is None


async def test_what_http_lets_through_and_grpc_does_not_is_not_passed_on() -> None:
    way = flow(Recorded())
    await processed(way, UNSAMPLED, ("tracestate", "a=1,\tb=2"), ("baggage", "tenant=7\x7f"))
    for heard in way.handler.heard:
        assert all(str(value).isprintable() and str(value).isascii() for value in heard.values())


async def test_what_the_sampler_leaves_out_is_not_recorded_behind_the_hop_either() -> None:
    way = flow(Recorded(sampler=ParentBased(ALWAYS_OFF)))
    await processed(way)
    assert way.recorded.spans == ()
    (command,) = way.hop.seen
    assert command.trace is not None
    assert not command.trace.is_sampled


async def test_a_trace_that_makes_no_sense_is_begun_anew() -> None:
    way = flow(Recorded())
    context = await processed(way, ("traceparent", "00-nonsense"), ("tracestate", "=,=" * 500))
    assert context.told is None
    assert trace_of(way.recorded.one("entity process")) != TRACE


async def test_a_trace_id_is_in_each_line_of_the_log_that_a_command_leads_to(
    output: io.StringIO,
) -> None:
    configure_logs("INFO", "JSON", "bank", output)
    note_in_lines(ids)
    way = flow(Recorded())
    way.journal.plant(Fault.CONFLICT)
    await processed(way, SAMPLED)
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    (line,) = [line for line in lines if line["message"] == "entity may have another writer"]
    entity = way.recorded.one("entity process")
    assert (line["trace_id"], line["span_id"]) == (TRACE, f"{span_id(entity):016x}")
    assert line["entity_id"] == "a"
    logging.getLogger("cos_ray.test").warning("of nobody's")
    assert "trace_id" not in json.loads(output.getvalue().splitlines()[-1])


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger(logs.OURS)
    handlers, levels = [*root.handlers], (root.level, ours.level)
    monkeypatch.setattr(logs, "_noted", None)
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


async def test_a_refusal_is_an_answer_to_the_client_and_an_error_of_the_handlers_call() -> None:
    way = flow(Recorded())
    way.handler.failure = HandlerFailed(Status(Code.INVALID_ARGUMENT, "payload text", b"details"))
    context = await processed(way, SAMPLED)
    assert context.told is grpc.StatusCode.INVALID_ARGUMENT
    received, entity = way.recorded.one(f"{SERVICE}/ProcessCommand"), way.recorded.one("entity process")
    call = way.recorded.one("HandleCommand")
    assert call.status.status_code is StatusCode.ERROR
    assert (call.attributes or {})["error.type"] == "INVALID_ARGUMENT"
    assert (entity.attributes or {})["cos.refusal"] == "INVALID_ARGUMENT"
    assert (received.attributes or {})["rpc.grpc.status_code"] == 3
    assert received.status.status_code is entity.status.status_code is StatusCode.UNSET
    shown = "".join(span.to_json() for span in way.recorded.spans)
    assert "payload text" not in shown


async def test_a_fault_of_the_service_is_an_error_throughout() -> None:
    way = flow(Recorded())
    way.journal.plant(Fault.UNAVAILABLE)
    await processed(way, SAMPLED)
    for name in ("journal append", "entity process", f"{SERVICE}/ProcessCommand"):
        assert way.recorded.one(name).status.status_code is StatusCode.ERROR
    assert (way.recorded.one("journal append").attributes or {})["error.type"] == "JournalUnavailable"


class Reader:
    """A read handler, confirming or not."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.failure: DeliveryFailed | None = None
        self.heard: list[dict[str, str | bytes]] = []

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        self.heard.append({header.key: header.value for header in self.recorded.tracing.outgoing()})
        if self.failure is not None:
            raise self.failure


class BatchReader(Reader):
    batch = 10

    async def handle_many(self, read_side: ReadSideId, events: object) -> None:
        await self.handle(read_side, Shard(0), None)  # type: ignore[arg-type]


async def test_a_delivery_is_a_trace_of_its_own_that_links_to_the_command() -> None:
    way = flow(Recorded())
    await processed(way, SAMPLED)
    reader = Reader(way.recorded)
    await traced_read_handler(reader, way.recorded.tracing).handle(BOOKS, Shard(0), await event_of(way))
    delivery = way.recorded.one("deliver books")
    (link,) = delivery.links
    received = way.recorded.one(f"{SERVICE}/ProcessCommand")
    assert (link.context.trace_id, link.context.span_id) == (int(TRACE, 16), span_id(received))
    assert trace_of(delivery) != TRACE
    assert delivery.kind is SpanKind.CONSUMER
    # Sampled, and of a random id.
    assert reader.heard == [{"traceparent": f"00-{trace_of(delivery)}-{span_id(delivery):016x}-03"}]
    assert (delivery.attributes or {})["cos.entity.revision"] == 1


async def test_a_delivery_that_fails_is_an_error_and_fails() -> None:
    way = flow(Recorded())
    await processed(way, SAMPLED)
    reader = Reader(way.recorded)
    reader.failure = DeliveryFailed("payload text", Code.UNAVAILABLE)
    with pytest.raises(DeliveryFailed):
        await traced_read_handler(reader, way.recorded.tracing).handle(BOOKS, Shard(0), await event_of(way))
    delivery = way.recorded.one("deliver books")
    assert delivery.status.status_code is StatusCode.ERROR
    assert (delivery.attributes or {})["error.type"] == "UNAVAILABLE"
    assert "payload text" not in delivery.to_json()


async def test_many_events_in_one_call_are_one_delivery_with_a_link_for_each() -> None:
    way = flow(Recorded())
    for _ in range(2):
        await processed(way)
    reader = traced_read_handler(BatchReader(way.recorded), way.recorded.tracing)
    events = [(Shard(0), event.envelope) for event in await way.journal.after(Shard(0), Offset(0), 10)]
    await reader.handle_many(BOOKS, events)  # type: ignore[attr-defined]
    assert len(way.recorded.one("deliver books").links) == 2


async def test_an_event_of_which_no_trace_is_known_is_delivered_without_one() -> None:
    way = flow(Recorded())
    await processed(way, UNSAMPLED)
    reader = Reader(way.recorded)
    await traced_read_handler(reader, way.recorded.tracing).handle(BOOKS, Shard(0), await event_of(way))
    assert reader.heard == [{}]
    assert way.recorded.spans == ()


@pytest.mark.parametrize(
    "writer",
    [
        "4c0d7bb1-2bd6-4c5f-9f0b-2f3a3a0c4d11",
        f"{'0' * 32}-17",
        "00-",
        "",
        f"00-{TRACE}-{CALLER}-01",
        f"00-{'x' * 32}-{CALLER}-01/1",
    ],
)
def test_other_writers_are_no_causes(writer: str) -> None:
    assert cause_of(writer) is None


def test_a_traced_id_fits_the_column_and_names_its_cause() -> None:
    parent = f"00-{TRACE}-{CALLER}-01"
    longest = CommandId(f"{'f' * 32}-{2**63}")
    assert cause_of(traced_id(longest, Trace(parent))) == parent
    assert len(traced_id(longest, Trace(parent))) <= 255
    assert traced_id(longest, Trace(parent[:-1] + "0")) == longest


def test_a_clients_own_trace_header_gives_way_where_traces_are_on() -> None:
    told = (Header("TraceParent", "theirs"), Header("x-user", "ada"))
    assert with_trace(told, None) is told
    ours = Header("traceparent", "ours")
    assert with_trace(told, lambda: (ours,)) == (Header("x-user", "ada"), ours)
    assert with_trace(told, lambda: ()) is told


def test_where_traces_are_off_opentelemetry_is_not_imported() -> None:
    program = (
        "import sys; import cos_ray.bootstrap.entity, cos_ray.bootstrap.shard_host;"
        "import cos_ray.bootstrap.read_side, cos_ray.bootstrap.ingress;"
        "from cos_ray.handlers import grpc_write, grpc_read; from cos_ray.ingress import service;"
        "from cos_ray.telemetry.traces import tracing_of; assert tracing_of(None, 'test') is None;"
        "ours = [m for m in sys.modules if m in ('cos_ray.telemetry.otel', 'opentelemetry.exporter')];"
        "assert not ours, ours"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

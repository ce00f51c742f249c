"""What clients see of replies and of faults, at the methods that Serve calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as PbAny
from google.rpc.status_pb2 import Status as RichStatus

from cos_ray.domain.errors import Code, EntityLost, JournalUnavailable, NotSharded, Status
from cos_ray.domain.evolution import unborn
from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.messages import (
    EMPTY_STATE,
    Accepted,
    Command,
    EntityState,
    Header,
    Meta,
    Packed,
    Refused,
    Reply,
)
from cos_ray.domain.shard_assignment import HostId
from cos_ray.domain.status import IngressStatus, NodeStatus, ServiceStatus, ShardHostStatus
from cos_ray.ingress.admission import AdmissionPolicy
from cos_ray.ingress.grpc_bridge import HttpPolicy
from cos_ray.ingress.listener_settings import ListenerSettings
from cos_ray.ingress.readiness import Check
from cos_ray.ingress.service import CommandPolicy, Ingress
from cos_ray.ports import CommandMeter, Unmeasured
from cos_ray.protocol.any_form import AnyForms
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    GetStateRequest,
    GetStateResponse,
    ProcessCommandRequest,
    ProcessCommandResponse,
)
from cos_ray.protocol.pb.cos_ray.v1.operations_pb2 import GetServiceStatusRequest, ResizeShardHostsRequest
from cos_ray.readside.management import ReadSideManagement
from cos_ray.subscriptions.subscriptions import Subscriptions
from cos_ray.testing.journal import MemoryJournal
from tests.support.read_side import desk_of

A = EntityId("a")


@dataclass
class Context:
    """What Serve hands to a method."""

    metadata: list[tuple[str, str | bytes]] = field(default_factory=list)
    code: grpc.StatusCode | None = None
    details: str = ""
    trailers: list[tuple[str, str | bytes]] = field(default_factory=list)

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None:
        self.trailers = trailing_metadata

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        return self.metadata


@dataclass
class Gateway:
    """Answers as told; waits while `gate` is cleared."""

    answer: Reply | EntityState | Exception = Accepted(unborn(A))  # noqa: RUF009
    commands: list[Command] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def process(self, command: Command) -> Reply:
        self.commands.append(command)
        await self.gate.wait()
        return self._answer()

    async def state(self, entity_id: EntityId) -> EntityState:
        return self._answer()

    def _answer(self):  # type: ignore[no-untyped-def]
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class OneOfEach:
    """`Operations` of a service with one part of each kind, of which another is silent."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.wanted: list[int | None] = []

    async def status(self) -> ServiceStatus:
        host = ShardHostStatus(HostId("0"), "10.0.0.1", 8, 16, 3, 4500, 1, 70, 5, 2)
        node, replica = NodeStatus("10.0.0.1", 2.0, 0), IngressStatus("10.0.0.1", 7, 1, 70)
        return ServiceStatus("bank", "sharded", (node,), (replica,), (host,), ("shard host 1",))

    async def resize(self, hosts: int | None) -> list[HostId]:
        self.wanted.append(hosts)
        if self.fault is not None:
            raise self.fault
        # As a coordinator does: no more than there are shards, whatever number a client comes up with.
        return [HostId(str(number)) for number in range(min(hosts or 2, 16))]


@dataclass
class Parts:
    gateway: Gateway
    policy: CommandPolicy
    subscriptions: Subscriptions | None = None
    replicas: object = None
    history: MemoryJournal = field(default_factory=MemoryJournal)
    past: object = None
    eraser: object = None
    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    http: HttpPolicy = field(default_factory=HttpPolicy)
    listeners: ListenerSettings | None = None
    any_forms: AnyForms = field(default_factory=AnyForms)
    checks: dict[str, Check] = field(default_factory=dict)
    read_sides: ReadSideManagement = field(default_factory=lambda: desk_of([]))
    operations: OneOfEach = field(default_factory=OneOfEach)
    whereabouts: tuple[str, int] = ("10.0.0.1", 7)
    meter: CommandMeter = field(default_factory=Unmeasured)
    tracing: Any = None

    async def ends_with_service(self) -> bool:
        return False

    async def close(self) -> None: ...


async def ingress(gateway: Gateway, policy: CommandPolicy | None = None, **parts: Any) -> Ingress:
    return await built(Ingress, gateway, policy, **parts)


async def built(cls: type[Any], gateway: Gateway, policy: CommandPolicy | None = None, **parts: Any) -> Any:
    async def build() -> Parts:
        return Parts(gateway, policy or CommandPolicy(command_timeout=5.0), **parts)

    # Its constructor is async: Serve awaits it.
    one = cls.__new__(cls)
    await one.__init__(build)
    return one


def request(entity_id: str = "a") -> ProcessCommandRequest:
    return ProcessCommandRequest(entity_id=entity_id, command=PbAny(type_url="t/C", value=b"c"))


async def processed(
    answer: Reply | Exception, *metadata: tuple[str, str | bytes]
) -> tuple[Context, list[Command]]:
    gateway, context = Gateway(answer), Context([*metadata])
    reply = await (await ingress(gateway)).ProcessCommand(request(), context)
    assert context.code is None or reply == ProcessCommandResponse()
    return context, gateway.commands


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
async def test_a_refusal_keeps_its_code_its_message_and_its_details(code: Code) -> None:
    context, _ = await processed(Refused(Status(code, "why", b"details", (("x-cos-actual-revision", "5"),))))
    assert context.code is not None
    assert (context.code.value[0], context.details) == (code.value, "why")
    assert context.trailers == [("x-cos-actual-revision", "5"), ("grpc-status-details-bin", b"details")]


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
@pytest.mark.parametrize("message", ["", "why", "größe"])
async def test_a_refusal_without_details_has_its_code_and_its_message_for_details(
    code: Code, message: str
) -> None:
    context, _ = await processed(Refused(Status(code, message)))
    expected = RichStatus(code=code.value, message=message)
    assert context.trailers == [("grpc-status-details-bin", expected.SerializeToString())]


async def test_a_question_for_the_state_of_nobody_has_them_too() -> None:
    context = Context([])
    await (await ingress(Gateway(unborn(A)))).GetState(GetStateRequest(entity_id="a"), context)
    assert context.trailers == [("grpc-status-details-bin", b"\x08\x05")]


@pytest.mark.parametrize("message", ["x" * 5_000, "é" * 1_000])
async def test_a_long_message_is_not_said_twice_for_clients_bound_the_trailers(message: str) -> None:
    context, _ = await processed(Refused(Status(Code.ABORTED, message)))
    assert (context.details, context.trailers) == (message, [])


@pytest.mark.parametrize("code", [0, 99, None, "ABORTED"])
async def test_a_code_that_is_none_is_a_fault_of_ours_and_no_success(code: Any) -> None:
    context, _ = await processed(Refused(Status(code, "why")))
    assert context.code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("message", "details", "shown", "kept"),
    [
        ("a" * 3_000, 3_000, "a" * 3_000, True),
        ("a" * 7_100, 0, "a" * 7_100, True),
        ("a" * 7_101, 0, "a" * 7_091 + "…", True),
        ("%" * 2_367, 0, "%" * 2_363 + "…", True),
        ("日" * 800, 0, "日" * 787 + "…", True),
        ("no", 5_300, "no", True),
        ("no", 5_400, "no", False),
        ("half an emoji: \ud83d", 0, "half an emoji: \ufffd", True),
    ],
)
async def test_a_status_is_cut_to_what_trailers_carry(
    message: str, details: int, shown: str, kept: bool
) -> None:
    octets = bytes(details) or None
    context, _ = await processed(Refused(Status(Code.ABORTED, message, octets)))
    assert (context.code, context.details) == (grpc.StatusCode.ABORTED, shown)
    told = dict(context.trailers).get("grpc-status-details-bin")
    if octets is not None:
        assert (told == octets) is kept


@pytest.mark.parametrize(
    "fault", [ValueError("secret"), Accepted(EntityState(Packed(b"\xff"), Meta(A, Revision(1)), Revision(1)))]
)  # type: ignore[list-item]
async def test_a_fault_of_ours_is_internal_and_tells_nothing(fault: Reply | Exception) -> None:
    context, _ = await processed(fault)
    assert (context.code, context.details) == (
        grpc.StatusCode.INTERNAL,
        "the service failed; its log says why",
    )


@pytest.mark.parametrize(
    "metadata",
    [
        ("x-cos-idempotency-key", ""),
        ("x-cos-idempotency-key", "k" * 129),
        ("x-cos-expected-revision", "-1"),
        ("x-cos-expected-revision", "one"),
    ],
)
async def test_wrong_metadata_is_an_invalid_argument_and_reaches_no_entity(metadata: tuple[str, str]) -> None:
    context, commands = await processed(Accepted(unborn(A)), metadata)
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert commands == []


async def test_a_command_carries_its_demands_and_its_headers() -> None:
    gateway = Gateway()
    policy = CommandPolicy(5.0, ("X-Trace", "raw-bin"), ("x-user",))
    metadata: list[tuple[str, str | bytes]] = [
        ("x-cos-idempotency-key", "k"),
        ("x-cos-expected-revision", "0"),
        ("x-trace", "1"),
        ("raw-bin", b"\xff"),
        ("x-trace", "2"),
        ("x-user", "ada"),
    ]
    await (await ingress(gateway, policy)).ProcessCommand(request(), Context(metadata))
    (command,) = gateway.commands
    assert (command.key, command.expected_revision, command.budget) == ("k", 0, 5.0)
    assert command.propagated == (
        Header("X-Trace", "1"),
        Header("X-Trace", "2"),
        Header("raw-bin", b"\xff"),
    )
    assert command.persisted == (Header("x-user", "ada"),)


async def test_beyond_its_bound_a_replica_turns_commands_away_and_only_then() -> None:
    gateway = Gateway()
    gateway.gate.clear()
    one = await ingress(gateway, CommandPolicy(5.0, commands_at_once=2))
    running = [asyncio.ensure_future(one.ProcessCommand(request(), Context())) for _ in range(2)]
    await asyncio.sleep(0)
    context = Context()
    await one.ProcessCommand(request(), context)
    assert (context.code, context.details) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "too many commands are in progress",
    )
    # One whose client has gone makes room.
    running[0].cancel()
    await asyncio.sleep(0)
    gateway.gate.set()
    after = Context()
    await one.ProcessCommand(request(), after)
    assert after.code is None
    await running[1]
    assert len(gateway.commands) == 3


async def test_an_id_over_the_limit_or_with_nul_is_an_invalid_argument() -> None:
    one = await ingress(Gateway())
    for entity_id, text in (("", "empty entity ID"), ("x" * 256, "longer than 255"), ("a\0", "NUL")):
        for call, message in (
            (one.ProcessCommand, request(entity_id)),
            (one.GetState, GetStateRequest(entity_id=entity_id)),
        ):
            context = Context()
            await call(message, context)  # type: ignore[operator]
            assert context.code is grpc.StatusCode.INVALID_ARGUMENT
            assert text in context.details


async def test_get_state_answers_not_found_without_a_message_below_revision_1() -> None:
    context = Context()
    reply = await (await ingress(Gateway(unborn(A)))).GetState(GetStateRequest(entity_id="a"), context)
    assert (context.code, context.details, reply) == (grpc.StatusCode.NOT_FOUND, "", GetStateResponse())


async def test_get_state_answers_state_and_meta_from_revision_1() -> None:
    context = Context()
    state = EntityState(EMPTY_STATE, Meta(A, Revision(1)), Revision(1))
    reply = await (await ingress(Gateway(state))).GetState(GetStateRequest(entity_id="a"), context)
    assert context.code is None
    assert (reply.meta.entity_id, reply.meta.revision_number) == ("a", 1)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (JournalUnavailable("down"), grpc.StatusCode.UNAVAILABLE),
        (ValueError("garbled row"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_get_state_without_a_journal_is_unavailable(error: Exception, code: grpc.StatusCode) -> None:
    context = Context()
    await (await ingress(Gateway(error))).GetState(GetStateRequest(entity_id="a"), context)
    assert context.code is code


async def test_the_service_as_a_whole_is_shown_part_by_part_and_who_is_silent_is_named() -> None:
    one = await ingress(Gateway(Accepted(unborn(A))))
    shown = await one.GetServiceStatus(GetServiceStatusRequest(), Context())
    assert (shown.service, shown.placement, shown.live_entities) == ("bank", "sharded", 3)
    assert (shown.shard_hosts[0].memory_bytes, shown.shard_hosts[0].passivations) == (4500, 2)
    assert (shown.nodes[0].cpus, shown.ingress[0].in_hand) == (2.0, 1)
    assert list(shown.silent) == ["shard host 1"]
    assert await one.own_status() == IngressStatus("10.0.0.1", 7, 0, 0)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (NotSharded(), grpc.StatusCode.FAILED_PRECONDITION),
        (EntityLost("the coordinator is gone"), grpc.StatusCode.UNAVAILABLE),
        (RuntimeError("unforeseen"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_shard_hosts_that_cannot_be_resized_are_told_of_by_a_code(
    fault: Exception, code: grpc.StatusCode
) -> None:
    operations, context = OneOfEach(fault), Context()
    one = await ingress(Gateway(Accepted(unborn(A))), operations=operations)
    assert not (await one.ResizeShardHosts(ResizeShardHostsRequest(hosts=3), context)).hosts
    assert context.code is code
    operations.fault = None
    assert list((await one.ResizeShardHosts(ResizeShardHostsRequest(), Context())).hosts) == ["0", "1"]
    assert operations.wanted == [3, None]

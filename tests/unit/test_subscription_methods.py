"""What clients of the streaming methods see."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import grpc
import pytest
from google.protobuf.wrappers_pb2 import UInt64Value

from cos_ray.domain.errors import ReplicasSilent
from cos_ray.ingress.service import Ingress
from cos_ray.ingress.status import StreamRefused
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    SubscribeAllRequest,
    SubscribeRequest,
    UnsubscribeAllRequest,
    UnsubscribeRequest,
    UnsubscribeResponse,
)
from cos_ray.subscriptions.subscriptions import SubscriptionPolicy, Subscriptions
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import MemoryJournal
from tests.support.journal import append_of
from tests.unit.test_ingress import Context, Gateway, ingress


@dataclass
class OtherReplicas:
    """Remembers what they were told; answers unless told not to."""

    told: list[tuple[str, str]] = field(default_factory=list)
    are_silent: bool = False

    async def end_subscription(self, kind: str, subscription_id: str) -> None:
        self.told.append((kind, subscription_id))
        if self.are_silent:
            raise ReplicasSilent("one of them")


class World:
    """An ingress over a journal in memory."""

    def __init__(self) -> None:
        self.journal, self.clock, self.replicas = MemoryJournal(), ManualClock(), OtherReplicas()
        self.subscriptions = Subscriptions(self.journal, self.clock, SubscriptionPolicy())

    async def ingress(self, *, enabled: bool = True) -> Ingress:
        subscriptions = self.subscriptions if enabled else None
        return await ingress(Gateway(), subscriptions=subscriptions, replicas=self.replicas)

    async def store(self, *appends) -> None:  # type: ignore[no-untyped-def]
        for append in appends:
            await self.journal.append(append)
        await self.clock.pass_time(0.1)

    async def listen(self, stream) -> tuple[list, asyncio.Task[None]]:  # type: ignore[no-untyped-def, type-arg]
        messages: list[object] = []

        async def take() -> None:
            async for message in stream:
                messages.append(message)

        task = asyncio.ensure_future(take())
        await self.clock.pass_time(0.1)
        return messages, task


async def test_switched_off_all_four_are_unimplemented_as_in_chief_of_state() -> None:
    one = await World().ingress(enabled=False)
    contexts = [Context() for _ in range(4)]
    for stream in (
        one.Subscribe(SubscribeRequest(), contexts[0]),
        one.SubscribeAll(SubscribeAllRequest(), contexts[1]),
    ):
        with pytest.raises(StreamRefused):
            await anext(stream)
    await one.Unsubscribe(UnsubscribeRequest(), contexts[2])
    await one.UnsubscribeAll(UnsubscribeAllRequest(), contexts[3])
    for context in contexts:
        assert context.code is grpc.StatusCode.UNIMPLEMENTED
        assert context.details == "Subscription is not enabled; configure subscription to use streaming"


@pytest.mark.parametrize(
    ("request_", "metadata", "text"),
    [
        (SubscribeRequest(), (), "entity_id is required"),
        (SubscribeRequest(entity_id="a\0"), (), "NUL"),
        (SubscribeRequest(entity_id="a", subscription_id="x" * 256), (), "longer than 255"),
        (SubscribeRequest(entity_id="a"), ("x-cos-from-revision", "one"), "allowed: a whole number from 0"),
        (SubscribeRequest(entity_id="a"), ("x-cos-from-revision", "-1"), "allowed: a whole number from 0"),
        (SubscribeRequest(entity_id="a"), ("x-cos-from-revision", "9" * 30), "allowed: a whole number"),
        (SubscribeRequest(entity_id="a"), ("x-cos-from-offset", "1"), "belongs to SubscribeAll"),
        (SubscribeAllRequest(), ("x-cos-from-offset", ""), "allowed: a whole number from 0"),
        (SubscribeAllRequest(), ("x-cos-from-revision", "1"), "belongs to Subscribe"),
        (SubscribeAllRequest(), ("x-cos-with-offset", "1"), "true or false"),
    ],
)
async def test_a_request_that_makes_no_sense_is_an_invalid_argument(
    request_: SubscribeRequest | SubscribeAllRequest, metadata: tuple[str, str], text: str
) -> None:
    one, context = await World().ingress(), Context([metadata] if metadata else [])
    method = one.Subscribe if isinstance(request_, SubscribeRequest) else one.SubscribeAll
    with pytest.raises(StreamRefused):
        await anext(method(request_, context))  # type: ignore[operator]
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in context.details


async def test_messages_carry_the_event_the_state_the_meta_and_the_id() -> None:
    world = World()
    one = await world.ingress()
    mine, _ = await world.listen(
        one.Subscribe(SubscribeRequest(entity_id="a", subscription_id="s"), Context())
    )
    named, _ = await world.listen(one.SubscribeAll(SubscribeAllRequest(), Context()))
    append = append_of("a", 0)
    await world.store(append, append_of("b", 0))
    (message,) = mine
    envelope = append.envelopes[0]
    assert (message.event.SerializeToString(), message.resulting_state.SerializeToString()) == (
        envelope.event,
        envelope.resulting_state,
    )
    assert (message.subscription_id, message.meta.entity_id, message.meta.revision_number) == ("s", "a", 1)
    assert len(named) == 2
    assert len({message.subscription_id for message in named}) == 1
    assert len(named[0].subscription_id) == 36
    assert not named[0].meta.data


async def test_offsets_are_told_to_who_asks_and_one_can_go_on_from_them() -> None:
    world = World()
    one = await world.ingress()
    await world.store(append_of("a", 0, events=3))
    from_start = Context([("x-cos-from-offset", "0")])
    first, task = await world.listen(one.SubscribeAll(SubscribeAllRequest(), from_start))
    offset = UInt64Value()
    assert first[1].meta.data["cos_ray.offset"].Unpack(offset)
    task.cancel()
    again, _ = await world.listen(
        one.SubscribeAll(SubscribeAllRequest(), Context([("X-Cos-From-Offset", str(offset.value))]))
    )
    assert [message.meta.revision_number for message in again] == [3]
    live, _ = await world.listen(
        one.SubscribeAll(SubscribeAllRequest(), Context([("x-cos-with-offset", "true")]))
    )
    await world.store(append_of("a", 3))
    assert live[0].meta.data["cos_ray.offset"].Unpack(offset)
    assert offset.value == 4


async def test_from_a_revision_on_the_past_comes_first() -> None:
    world = World()
    one = await world.ingress()
    await world.store(append_of("a", 0, events=3))
    context = Context([("x-cos-from-revision", "2")])
    messages, _ = await world.listen(one.Subscribe(SubscribeRequest(entity_id="a"), context))
    await world.store(append_of("a", 3))
    assert [message.meta.revision_number for message in messages] == [2, 3, 4]


async def test_unsubscribing_completes_the_stream_here_and_tells_the_others() -> None:
    world = World()
    one = await world.ingress()
    context = Context()
    request = SubscribeRequest(entity_id="a", subscription_id="s")
    _, task = await world.listen(one.Subscribe(request, context))
    for id_ in ("unknown", "s"):
        reply = await one.Unsubscribe(UnsubscribeRequest(subscription_id=id_), Context())
        assert reply == UnsubscribeResponse(subscription_id=id_)
    await task
    assert context.code is None
    assert world.replicas.told == [("entity", "unknown"), ("entity", "s")]


async def test_what_a_neighbour_says_ends_the_stream_here() -> None:
    world = World()
    one = await world.ingress()
    _, task = await world.listen(one.SubscribeAll(SubscribeAllRequest(subscription_id="s"), Context()))
    assert not await one.end_subscription("entity", "s")
    assert await one.end_subscription("all", "s")
    await task


async def test_without_an_id_or_without_all_confirmations_unsubscribing_is_refused() -> None:
    world = World()
    one = await world.ingress()
    context = Context()
    await one.UnsubscribeAll(UnsubscribeAllRequest(), context)
    assert (context.code, context.details) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "subscription_id is required",
    )
    world.replicas.are_silent = True
    context = Context()
    await one.UnsubscribeAll(UnsubscribeAllRequest(subscription_id="s"), context)
    assert context.code is grpc.StatusCode.UNAVAILABLE


async def test_a_drained_process_sends_its_clients_elsewhere_by_a_status() -> None:
    world = World()
    one = await world.ingress()
    context = Context()
    _, task = await world.listen(one.Subscribe(SubscribeRequest(entity_id="a"), context))
    await one.drain()
    with pytest.raises(StreamRefused):
        await task
    assert context.code is grpc.StatusCode.UNAVAILABLE


async def test_a_client_that_leaves_is_forgotten() -> None:
    world = World()
    one = await world.ingress()
    for _ in range(20):
        stream = one.Subscribe(SubscribeRequest(entity_id="a"), Context())
        _, task = await world.listen(stream)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stream.aclose()  # type: ignore[attr-defined]
        abandoned = one.SubscribeAll(SubscribeAllRequest(), Context([("x-cos-from-offset", "0")]))
        await world.store(append_of(f"e{len(world.journal.appends)}", 0))
        waiting = asyncio.ensure_future(anext(abandoned))
        await world.clock.pass_time(0.1)
        await waiting
        await abandoned.aclose()  # type: ignore[attr-defined]
    assert len(world.subscriptions) == 0


async def test_a_fault_of_ours_ends_the_stream_and_tells_nothing() -> None:
    world = World()
    one = await world.ingress()
    context = Context()
    await world.store(append_of("a", 0))

    async def garbled(*_: object) -> None:
        raise ValueError("secret")

    world.journal.of_entity = garbled  # type: ignore[assignment, method-assign]
    place = [("x-cos-from-revision", "1")]
    context = Context(place)  # type: ignore[arg-type]
    _, task = await world.listen(one.Subscribe(SubscribeRequest(entity_id="a"), context))
    with pytest.raises(StreamRefused):
        await task
    assert (context.code, context.details) == (
        grpc.StatusCode.INTERNAL,
        "the service failed; its log says why",
    )

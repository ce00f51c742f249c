"""Replies with large states travel in several answers."""

from __future__ import annotations

import asyncio

from cos_ray.domain.ids import CommandId, EntityId, Revision
from cos_ray.domain.messages import Accepted, Command, EntityState, Meta, Packed
from cos_ray.transport.batching import ANSWER_OCTETS, Batch, BatchingClient, BatchingServer, BatchReply
from cos_ray.transport.host_reply import HostReply


async def test_an_answer_holds_as_many_replies_as_fit_and_all_come() -> None:
    gate = asyncio.Event()
    sizes: list[int] = []

    async def process(command: Command) -> HostReply:
        await gate.wait()
        state = Packed(b"x" * (ANSWER_OCTETS // 3))
        meta = Meta(command.entity_id, Revision(1))
        return Accepted(EntityState(state, meta, Revision(1)))

    server = BatchingServer(process, lambda *_: None)

    async def call(batch: Batch) -> BatchReply:
        answer = await server.exchange("line", batch)
        sizes.append(len(answer.replies))
        return answer

    line = BatchingClient(call, lambda: None)
    commands = [Command(EntityId(f"e{n}"), Packed(b""), CommandId(f"c{n}"), 5.0) for n in range(20)]
    asked = [asyncio.ensure_future(line.ask(command)) for command in commands]
    while len(server._counters) == 0 or server.in_progress < 20:
        await asyncio.sleep(0.001)
    gate.set()
    replies = await asyncio.gather(*asked)
    assert {reply.state.meta.entity_id for reply in replies if isinstance(reply, Accepted)} == {
        command.entity_id for command in commands
    }
    assert max(sizes) == 3

"""
The naive baseline's process: commands of Chief of State's protocol, state in a row, no history.

    python -m benchmarks.contestants.naive_server DATABASE HANDLER

A row is locked, the write handler is asked over gRPC with what the row holds, the row is written,
the transaction commits. Two calls of a handler and two statements for each command, as few as it
can be done with; nothing is batched, and no event is kept.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime, timezone

import grpc.aio
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from psycopg_pool import AsyncConnectionPool

from cos_ray.protocol.pb.chief_of_state.v1.common_pb2 import MetaData
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest, ProcessCommandResponse
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import (
    ChiefOfStateServiceServicer,
    add_ChiefOfStateServiceServicer_to_server,
)
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import HandleCommandRequest, HandleEventRequest
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2_grpc import WriteSideHandlerServiceStub
from cos_ray.samples.bank.serving import serve

CONNECTIONS = 16
READ = "select state, revision from accounts where id = %s for update"
INSERT = "insert into accounts (id, state, revision) values (%s, %s, %s)"
UPDATE = "update accounts set state = %s, revision = %s where id = %s"


class Naive(ChiefOfStateServiceServicer):
    """Runs commands, each in a transaction."""

    def __init__(self, pool: AsyncConnectionPool, handler: WriteSideHandlerServiceStub) -> None:
        self._pool, self._handler = pool, handler
        self._nothing = Any()
        self._nothing.Pack(Empty())

    async def ProcessCommand(
        self, request: ProcessCommandRequest, context: grpc.aio.ServicerContext
    ) -> ProcessCommandResponse:
        """Lock, ask, write, commit."""
        id_ = request.entity_id
        try:
            async with self._pool.connection() as connection, connection.transaction():
                row = await (await connection.execute(READ, [id_])).fetchone()
                state = Any.FromString(row[0]) if row else self._nothing
                meta = MetaData(entity_id=id_, revision_number=row[1] if row else 0)
                decided = await self._handler.HandleCommand(
                    HandleCommandRequest(command=request.command, prior_state=state, prior_event_meta=meta)
                )
                for event in decided.events:
                    meta.revision_number += 1
                    meta.revision_date.FromDatetime(datetime.now(timezone.utc))
                    evolved = await self._handler.HandleEvent(
                        HandleEventRequest(event=event, prior_state=state, event_meta=meta)
                    )
                    state = evolved.resulting_state
                if row:
                    values = [state.SerializeToString(), meta.revision_number, id_]
                    await connection.execute(UPDATE, values)
                else:
                    values = [id_, state.SerializeToString(), meta.revision_number]
                    await connection.execute(INSERT, values)
        except grpc.aio.AioRpcError as refused:
            await context.abort(refused.code(), refused.details() or "")
        return ProcessCommandResponse(state=state, meta=meta)


async def main(database: str, handler: str) -> None:
    async with (
        AsyncConnectionPool(database, min_size=CONNECTIONS, max_size=CONNECTIONS, open=False) as pool,
        grpc.aio.insecure_channel(handler) as channel,
    ):
        async with pool.connection() as connection:
            await connection.execute(
                "create table if not exists accounts"
                " (id text primary key, state bytea not null, revision bigint not null)"
            )
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        servicer = Naive(pool, WriteSideHandlerServiceStub(channel))
        add_ChiefOfStateServiceServicer_to_server(servicer, server)
        await serve(server, "naive bank", "127.0.0.1", 0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

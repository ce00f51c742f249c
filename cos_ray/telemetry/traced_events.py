"""
Deliveries to read sides, as traces: each is one of its own, with a link to the command it comes from.

Recorded is what comes from a command that was recorded, however long ago; a retry is a trace again.
"""

from __future__ import annotations

from collections.abc import Sequence

from cos_ray.domain.ids import ReadSideId, Shard
from cos_ray.domain.messages import EventEnvelope
from cos_ray.ports import BatchReadHandler, ReadHandler
from cos_ray.telemetry.otel import Attribute, Tracing


class TracedReadHandler:
    """`ReadHandler`, with a trace for each delivery."""

    def __init__(self, handler: ReadHandler, tracing: Tracing) -> None:
        self._handler = handler
        self._tracing = tracing

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        """See `ReadHandler`."""
        if envelope.cause is None:
            await self._handler.handle(read_side, shard, envelope)
            return
        attributes = {
            **_common(read_side),
            "cos.shard": shard,
            "cos.entity.id": envelope.meta.entity_id,
            "cos.entity.revision": envelope.meta.revision,
        }
        with self._tracing.delivery(f"deliver {read_side}", [envelope.cause], attributes):
            await self._handler.handle(read_side, shard, envelope)


class TracedBatchReadHandler(TracedReadHandler):
    """`BatchReadHandler`, likewise; a call with many events is one delivery."""

    def __init__(self, handler: BatchReadHandler, tracing: Tracing) -> None:
        super().__init__(handler, tracing)
        self._many = handler
        self.batch = handler.batch

    async def handle_many(self, read_side: ReadSideId, events: Sequence[tuple[Shard, EventEnvelope]]) -> None:
        """See `BatchReadHandler`."""
        causes = list(dict.fromkeys(event.cause for _, event in events if event.cause is not None))
        if not causes:
            await self._many.handle_many(read_side, events)
            return
        attributes = {**_common(read_side), "messaging.batch.message_count": len(events)}
        with self._tracing.delivery(f"deliver {read_side}", causes, attributes):
            await self._many.handle_many(read_side, events)


def traced_read_handler(handler: ReadHandler, tracing: Tracing) -> ReadHandler:
    """The handler, with a trace for each delivery."""
    if isinstance(handler, BatchReadHandler):
        return TracedBatchReadHandler(handler, tracing)
    return TracedReadHandler(handler, tracing)


def _common(read_side: ReadSideId) -> dict[str, Attribute]:
    return {
        "messaging.system": "cos_ray",
        "messaging.operation.type": "process",
        "messaging.destination.name": read_side,
    }

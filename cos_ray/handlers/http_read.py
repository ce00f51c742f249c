"""
Calls a read handler over HTTP/JSON: one POST for each event.

Confirmed is what is answered with 200 and `{"successful": true}`, and nothing else.
"""

from __future__ import annotations

from datetime import timedelta

from cos_ray.domain.errors import DeliveryFailed, HandlerFailed
from cos_ray.domain.ids import ReadSideId, Shard
from cos_ray.domain.messages import EventEnvelope, Header
from cos_ray.handlers.endpoints import HttpEndpoint
from cos_ray.handlers.http_calls import HttpCaller
from cos_ray.handlers.read_metadata import read_metadata
from cos_ray.handlers.trace_headers import Outgoing
from cos_ray.protocol.json_form import Json, any_to_json, meta_to_json

_PATH = "/v1/readside/handle"


class HttpReadHandler:
    """A read handler behind an HTTP address."""

    def __init__(self, target: HttpEndpoint, timeout: timedelta, outgoing: Outgoing | None = None) -> None:
        """`outgoing`: tells of the current trace, where traces are on."""
        self._calls = HttpCaller(target, "read handler", outgoing)
        self._timeout = timeout.total_seconds()

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        """Deliver one event; raises DeliveryFailed unless the handler confirms it in time."""
        request: dict[str, Json] = {
            "event": any_to_json(envelope.event),
            "state": any_to_json(envelope.resulting_state),
            "meta": meta_to_json(envelope.meta),
            "read_side_id": read_side,
        }
        metadata = read_metadata(shard, envelope.meta.entity_id, is_trimmed=True)
        headers = tuple(Header(*pair) for pair in metadata)
        try:
            reply = await self._calls.post(_PATH, request, headers, self._timeout)
        except HandlerFailed as error:
            status = error.status
            raise DeliveryFailed(f"{status.code.name}: {status.message}", status.code) from error
        except Exception as error:  # whatever cannot be sent must not end the one who sends
            raise DeliveryFailed(f"cannot be sent: {type(error).__name__}: {error}") from error
        if reply.get("successful") is not True:
            raise DeliveryFailed("the handler did not answer successful = true")

    async def close(self) -> None:
        """Close the connections; calls in progress are cut."""
        await self._calls.close()

"""
Calls a write handler over HTTP/JSON.

One POST for each of the two functions; how, is in `http_calls`. The header `x-cos-timeout-ms` says for
how many milliseconds the answer is waited for; then, or when the command's client goes, the connection
is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from cos_ray.domain.decisions import Decision, decide
from cos_ray.domain.errors import Code, HandlerFailed, Status
from cos_ray.domain.messages import NOTHING, EntityState, Header, Headers, Meta, Packed
from cos_ray.handlers.endpoints import HttpEndpoint
from cos_ray.handlers.http_calls import HttpCaller, broken
from cos_ray.handlers.trace_headers import Outgoing
from cos_ray.protocol.json_form import Json, any_from_json, any_to_json, meta_to_json

_COMMAND = "/v1/writeside/handleCommand"
_EVENT = "/v1/writeside/handleEvent"
_TIME_LEFT = "x-cos-timeout-ms"
_WHO = "write handler"


class HttpWriteHandler:
    """A write handler behind an HTTP address."""

    def __init__(
        self, target: HttpEndpoint, call_timeout: timedelta, outgoing: Outgoing | None = None
    ) -> None:
        """`outgoing`: tells of the current trace, where traces are on."""
        self._calls = HttpCaller(target, _WHO, outgoing)
        self._call_timeout = call_timeout.total_seconds()

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        """Which events the command leads to. Raises HandlerFailed."""
        request: dict[str, Json] = {
            "command": any_to_json(command),
            "prior_state": any_to_json(prior.state),
            "prior_event_meta": meta_to_json(prior.meta),
        }
        reply = await self._call(_COMMAND, request, headers, timeout)
        events = _given(reply, "events", [])
        if not isinstance(events, list):
            raise _broken("events is no list")
        return decide(
            [_any(event, f"events[{index}]") for index, event in enumerate(events)],
            _any(_given(reply, "event", ""), "event"),
        )

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """Which state the event leads to. Raises HandlerFailed, also for an answer without a state."""
        request: dict[str, Json] = {
            "event": any_to_json(event),
            "prior_state": any_to_json(prior_state),
            "event_meta": meta_to_json(meta),
        }
        reply = await self._call(_EVENT, request, (), timeout)
        state = _any(_given(reply, "resulting_state", ""), "resulting_state")
        if state == NOTHING:
            raise HandlerFailed(Status(Code.INVALID_ARGUMENT, "event handler replied with empty state"))
        return state

    async def close(self) -> None:
        """Close the connections; calls in progress are cut."""
        await self._calls.close()

    async def _call(
        self, path: str, request: dict[str, Json], headers: Headers, timeout: float
    ) -> Mapping[str, Json]:
        timeout = min(timeout, self._call_timeout)
        # What gRPC says by a header of its own.
        others = tuple(header for header in headers if header.key.lower() != _TIME_LEFT)
        left = Header(_TIME_LEFT, str(max(1, int(timeout * 1000))))
        return await self._calls.post(path, request, (*others, left), timeout)


def _given(reply: Mapping[str, Json], name: str, default: Json) -> Json:
    """A field's value; one that is left out, or null, says nothing. 0 or {} says something wrong."""
    value = reply.get(name)
    return default if value is None else value


def _any(value: Json, name: str) -> Packed:
    try:
        return any_from_json(value)
    except ValueError as error:
        raise _broken(f"{name} {error}") from error


def _broken(problem: str) -> HandlerFailed:
    return broken(_WHO, problem)

"""Events as they come to HTTP clients: server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cos_ray.domain.ids import Offset
from cos_ray.subscriptions.subscriptions import Kind
from tests.support.http import World, http_world
from tests.support.journal import append_of, until


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with http_world() as world:
        yield world


class Reader:
    """Reads server-sent events from the application itself, as they come."""

    def __init__(self, world: World, path: str, **headers: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = ""
        self._gone = asyncio.Event()
        self._asked = False
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query.encode(), "http_version": "1.1", "scheme": "http",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        app = world.one.__serve_build_asgi_app__()
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    @property
    def events(self) -> list[dict[str, str]]:
        blocks = [block for block in self.text.split("\n\n") if block and not block.startswith(":")]
        return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]  # type: ignore[misc]

    @property
    def revisions(self) -> list[int]:
        return [json.loads(event["data"])["meta"]["revision_number"] for event in self.events]

    def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request"}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.text += message.get("body", b"").decode()


async def test_an_entitys_events_stream_and_a_client_goes_on_after_the_last_one(world: World) -> None:
    await world.journal.append(append_of("a", 0, events=2))
    reader = Reader(world, "/v1/entities/a/events/stream?from_revision=1&subscription_id=s")

    async def came(wanted: list[int], one: Reader) -> None:
        async def all_came() -> bool:
            return one.revisions == wanted

        await until(all_came)

    await came([1, 2], reader)
    assert reader.headers["x-cos-subscription-id"] == "s"
    assert reader.headers["content-type"].startswith("text/event-stream")
    assert [event["id"] for event in reader.events] == ["1", "2"]
    reader.leave()
    await reader.task
    assert len(world.subscriptions) == 0
    again = Reader(world, "/v1/entities/a/events/stream", last_event_id="2")
    await world.journal.append(append_of("a", 2))
    await came([3], again)
    world.subscriptions.drain()
    await again.task
    assert again.events[-1]["event"] == "error"
    assert json.loads(again.events[-1]["data"])["error"].startswith("UNAVAILABLE: ")


@pytest.mark.parametrize(
    ("given", "shown"), [("%E6%97%A5", "%E6%97%A5"), ("a%0D%0Ax-y:z", "a%0D%0Ax-y%3Az"), ("%20a", "%20a")]
)
async def test_an_id_that_no_header_can_hold_is_percent_encoded_there(
    world: World, given: str, shown: str
) -> None:
    reader = Reader(world, f"/v1/events/stream?from_offset=0&subscription_id={given}")

    async def open_() -> bool:
        return bool(reader.headers)

    await until(open_)
    assert reader.headers["x-cos-subscription-id"] == shown
    reader.leave()
    await reader.task


async def test_all_events_stream_with_their_offsets_and_end_when_told(world: World) -> None:
    reader = Reader(world, "/v1/events/stream?from_offset=0&subscription_id=s")
    await world.journal.append(append_of("a", 0))
    await world.journal.append(append_of("b", 0))

    async def both_came() -> bool:
        return len(reader.events) == 2

    await until(both_came)
    assert [event["id"] for event in reader.events] == ["1", "2"]
    assert "data" not in json.loads(reader.events[0]["data"])["meta"]
    assert world.subscriptions.end(Kind.ALL, "s")
    await reader.task
    assert reader.events[-1] == {"event": "end", "data": "{}"}


async def test_when_the_journal_went_back_a_browser_comes_back_from_before_what_is_lost(world: World) -> None:
    await world.journal.append(append_of("a", 0, events=2))
    readers = [
        Reader(world, "/v1/entities/a/events/stream?from_revision=1"),
        Reader(world, "/v1/events/stream?from_offset=0"),
    ]

    async def came(events: int) -> bool:
        return all(len(reader.events) == events for reader in readers)

    await until(lambda: came(2))
    await world.journal.append(append_of("a", 2, events=2))
    await until(lambda: came(4))
    world.journal.go_back(Offset(3))
    for reader in readers:
        await reader.task
        assert reader.events[-1]["event"] == "error"
        assert json.loads(reader.events[-1]["data"])["error"].startswith("ABORTED: ")
        # What a browser sends as Last-Event-ID when it comes back, which it does by itself.
        assert reader.events[-1]["id"] == "3"


async def test_a_silent_stream_is_open_at_once(world: World) -> None:
    reader = Reader(world, "/v1/events/stream")

    async def is_open() -> bool:
        return reader.status == 200 and reader.text.startswith(": open")

    await until(is_open)
    reader.leave()
    await reader.task

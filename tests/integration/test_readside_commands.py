"""`cos-ray readside` against a server: what it prints, and its exit status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from typer.testing import CliRunner, Result

from cos_ray.cli.app import app
from cos_ray.domain.failure_policy import DeliveryPolicy, LastResort
from cos_ray.domain.ids import EntityId
from cos_ray.domain.sharding import shard_of
from cos_ray.ingress.read_side_methods import ReadSideMethods
from cos_ray.protocol.pb.chief_of_state.v1.manager_pb2_grpc import (
    add_ReadSideManagerServiceServicer_to_server,
)
from cos_ray.protocol.pb.cos_ray.v1.readsides_pb2_grpc import add_ReadSideServiceServicer_to_server
from cos_ray.system.clock import SystemClock
from cos_ray.testing.offsets import MemoryReadSides
from tests.support.read_side import READ_SIDE, OneProcess, World, desk_of
from tests.support.running_service import eventually
from tests.support.server_in_a_thread import ServerInAThread

ENTITY = next(f"e{number}" for number in range(9) if shard_of(EntityId(f"e{number}"), 2) == 0)


class Methods(ReadSideMethods):
    def __init__(self, management) -> None:  # type: ignore[no-untyped-def]
        self.management = management

    def _read_side_management(self):  # type: ignore[no-untyped-def]
        return self.management


class Server(ServerInAThread):
    """A read side that runs and is served, in memory."""

    def __init__(self) -> None:
        super().__init__(add_ReadSideManagerServiceServicer_to_server, add_ReadSideServiceServicer_to_server)
        self.world = World()
        self.world.clock = SystemClock()  # type: ignore[assignment]
        self.world.offsets = MemoryReadSides(SystemClock())
        self.processes = OneProcess()

    @asynccontextmanager
    async def methods(self) -> AsyncIterator[Methods]:
        read_side = self.world.build(policy=DeliveryPolicy(0, last_resort=LastResort.PARK))
        self.world.read_side = read_side
        self.processes.processes = [read_side]
        running = asyncio.ensure_future(read_side.run())
        yield Methods(desk_of([READ_SIDE], self.world, self.processes))
        await read_side.stop()
        await running


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        server.world.handler.fail(ENTITY, 2)
        server.world.source.add(0, ENTITY, 3)
        server.world.source.add(1, "fine", 3)
        eventually(lambda: server.world.shard(0).parked == 2 and server.world.saved(1) != 0)
        yield server


def cos_ray(server: Server, *arguments: str) -> Result:
    where = ["--host", "127.0.0.1", "--port", str(server.port)]
    return CliRunner().invoke(app, ["readside", *arguments, *where])


def test_offset_prints_a_line_for_each_shard_or_for_one(server: Server) -> None:
    offsets = {shard: server.world.source.events(shard)[-1].offset for shard in (0, 1)}
    lines = cos_ray(server, "offset", "--id", READ_SIDE).output.split("\n")
    for shard, offset in offsets.items():
        assert any(line.split() == [str(shard), str(offset)] for line in lines)
    one = cos_ray(server, "offset", "--id", READ_SIDE, "--shard-number", "1", "--json")
    assert json.loads(one.output) == {"1": offsets[1]}


@pytest.mark.parametrize("verb", ["pause", "resume", "skip"])
@pytest.mark.parametrize("shard", [(), ("--shard-number", "1")])
def test_the_verbs_of_chief_of_states_command_line_work_as_they_are(
    server: Server, verb: str, shard: tuple[str, ...]
) -> None:
    done = cos_ray(server, verb, "--id", READ_SIDE, *shard)
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"{READ_SIDE}: {'shard 1' if shard else 'all shards'} ")
    cos_ray(server, "resume", "--id", READ_SIDE)


def test_status_shows_state_lag_and_errors(server: Server) -> None:
    assert cos_ray(server, "pause", "--id", READ_SIDE, "--shard-number", "1").exit_code == 0
    output = cos_ray(server, "status").output
    (first,) = [line for line in output.splitlines() if line.lstrip().startswith("0 ")]
    assert "running" in first
    assert f"{ENTITY} revision 2: planted" in first
    (found,) = json.loads(cos_ray(server, "status", "--id", READ_SIDE, "--json").output)
    assert [shard["state"] for shard in found["shards"]] == ["SHARD_STATE_RUNNING", "SHARD_STATE_PAUSED"]
    assert found["shards"][0]["dead_letters"] == "2"
    cos_ray(server, "resume", "--id", READ_SIDE)


def test_dead_letters_are_listed_and_a_retry_that_fails_says_so(server: Server) -> None:
    output = cos_ray(server, "dead-letters", "list", "--id", READ_SIDE).output
    assert [line.split()[:2] for line in output.splitlines() if ENTITY in line] == [
        [ENTITY, "2"],
        [ENTITY, "3"],
    ]
    listed = json.loads(cos_ray(server, "dead-letters", "list", "--id", READ_SIDE, "--json").output)
    assert [letter["failures"] for letter in listed] == [1, 0]
    retried = cos_ray(server, "dead-letters", "retry", "--id", READ_SIDE)
    assert (retried.exit_code, retried.output) == (1, f"0 delivered\n{ENTITY}: revision 2: planted\n")
    dropped = cos_ray(server, "dead-letters", "drop", "--id", READ_SIDE, "--entity", "nobody")
    assert dropped.output == "0 dropped\n"


def test_replay_delivers_again(server: Server) -> None:
    before = len(server.world.handler.confirmed("fine"))
    done = cos_ray(server, "replay", "--id", READ_SIDE, "--after", "0", "--shard-number", "1")
    assert (done.exit_code, done.output) == (0, "1 shards deliver again\n")
    eventually(lambda: len(server.world.handler.confirmed("fine")) == before + 3)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("pause", "--id", "nobody"), 1, "NOT_FOUND: unknown read side nobody"),
        (("skip", "--id", READ_SIDE, "--shard-number", "9"), 1, "wrong shard number provided"),
        (("pause",), 2, "--id"),
        (("pause", "--id", READ_SIDE, "--shard-number", "-1"), 2, "--shard-number"),
        (("replay", "--id", READ_SIDE), 2, "give one of"),
        (("replay", "--id", READ_SIDE, "--after", "1", "--entity", "a"), 2, "give one of"),
        (("replay", "--id", READ_SIDE, "--since", "yesterday"), 2, "--since"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    server: Server, arguments: tuple[str, ...], status: int, text: str
) -> None:
    done = cos_ray(server, *arguments)
    assert done.exit_code == status
    assert text in done.output


def test_without_a_service_it_says_where_it_looked() -> None:
    done = CliRunner().invoke(app, ["readside", "status", "--port", "9"])
    assert (done.exit_code, done.output) == (1, "no service answers at 127.0.0.1:9\n")

"""Calls between two processes by wire; here both ends are in one."""

from __future__ import annotations

import asyncio
import pickle
import struct
import time
from dataclasses import replace

import pytest

from cos_ray.cluster.wire import Address, Door, NotSent, Wire, WireCut, WireSilent

LOOPBACK = "127.0.0.1"


class Other:
    """What is behind the door."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.go_on = asyncio.Event()

    async def double(self, value: int) -> int:
        return 2 * value

    async def hold(self) -> str:
        await self.go_on.wait()
        return "held"

    async def fail(self) -> None:
        raise ZeroDivisionError

    async def unsendable(self) -> object:
        return lambda: None

    async def note(self, value: object) -> None:
        self.told.append(value)


async def behind(other: Other) -> Address:
    methods = {name: getattr(other, name) for name in ("double", "hold", "fail", "unsendable", "note")}
    return await Door(methods).address(LOOPBACK)


async def test_calls_are_answered_as_they_are_done_and_not_in_their_order() -> None:
    other = Other()
    wire = await Wire.to(await behind(other))
    slow = asyncio.ensure_future(wire.ask("hold"))
    assert await asyncio.gather(*(wire.ask("double", number) for number in range(50))) == [
        2 * number for number in range(50)
    ]
    assert not slow.done()
    other.go_on.set()
    assert await slow == "held"


async def test_large_calls_arrive_whole() -> None:
    other = Other()
    wire = await Wire.to(await behind(other))
    large = bytes(5_000_000)
    await wire.ask("note", large)
    assert other.told == [large]


async def test_what_is_told_arrives_before_what_is_asked_later() -> None:
    other = Other()
    wire = await Wire.to(await behind(other))
    wire.tell("note", 1)
    await wire.ask("note", 2)
    assert other.told == [1, 2]


async def test_a_door_stays_where_it_is() -> None:
    door = Door({})
    first, second = await asyncio.gather(door.address(LOOPBACK), door.address(LOOPBACK))
    assert first == second


async def test_without_the_secret_nothing_is_read() -> None:
    other = Other()
    address = await behind(other)
    wire = await Wire.to(replace(address, secret=bytes(32)))
    with pytest.raises(WireCut):
        await wire.ask("note", 1)
    assert other.told == []
    assert wire.is_cut


async def test_an_error_that_no_one_foresaw_ends_its_call_and_no_other() -> None:
    wire = await Wire.to(await behind(Other()))
    with pytest.raises(WireCut, match="ZeroDivisionError"):
        await wire.ask("fail")
    with pytest.raises(WireCut, match="the call failed"):
        await wire.ask("unsendable", within=5)
    assert await wire.ask("double", 2) == 4


async def test_with_the_other_side_gone_every_call_ends_and_whoever_wants_is_told() -> None:
    connections: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_server(silent, LOOPBACK, 0)
    wire = await Wire.to(Address(LOOPBACK, server.sockets[0].getsockname()[1], bytes(32)))
    told = asyncio.Event()
    wire.when_cut(told.set)
    calls = [asyncio.ensure_future(wire.ask("anything")) for _ in range(3)]
    while not connections:
        await asyncio.sleep(0.001)
    connections[0].transport.abort()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [WireCut] * 3
    await asyncio.wait_for(told.wait(), 5)
    with pytest.raises(WireCut):
        await wire.ask("anything")
    server.close()


async def test_one_that_is_silent_for_too_long_is_cut_off() -> None:
    wire = await Wire.to(await behind(Other()))
    with pytest.raises(WireCut):
        await wire.ask("hold", within=0.01)
    assert wire.is_cut


async def test_a_call_no_one_waits_for_any_more_does_no_harm() -> None:
    other = Other()
    wire = await Wire.to(await behind(other))
    call = asyncio.ensure_future(wire.ask("hold"))
    await asyncio.sleep(0)
    call.cancel()
    other.go_on.set()
    assert await wire.ask("double", 1) == 2


async def test_where_no_one_listens_there_is_no_wire() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(WireCut):
        await Wire.to(Address(LOOPBACK, port, bytes(32)))


async def test_frames_may_come_in_pieces() -> None:
    address = await behind(Other())
    reader, writer = await asyncio.open_connection(address.host, address.port)

    frame = pickle.dumps((7, 0.0, "double", (21,)))
    for octet in address.secret + struct.pack("!I", len(frame)) + frame:
        writer.write(bytes([octet]))
        await writer.drain()
        await asyncio.sleep(0)
    size = struct.unpack("!I", await reader.readexactly(4))[0]
    assert pickle.loads(await reader.readexactly(size)) == (7, 42)
    writer.close()


async def test_one_that_is_silent_is_cut_off_also_if_its_caller_has_given_up() -> None:
    wire = await Wire.to(await behind(Other()))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(wire.ask("hold", within=0.1), 0.01)
    with pytest.raises(WireSilent):
        await wire.ask("hold")
    assert wire.is_cut


async def test_an_answer_that_comes_in_time_though_nobody_waits_cuts_nothing() -> None:
    other = Other()
    wire = await Wire.to(await behind(other))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(wire.ask("hold", within=0.2), 0.01)
    lasting = asyncio.ensure_future(wire.ask("hold"))
    other.go_on.set()
    assert await lasting == "held"
    # Past the time of the one that was given up.
    await asyncio.sleep(0.3)
    assert await wire.ask("double", 2) == 4


async def test_of_a_process_that_takes_leave_no_call_is_lost() -> None:
    other = Other()
    methods = {name: getattr(other, name) for name in ("double", "hold")}
    door = Door(methods)
    wires = [await Wire.to(await door.address(LOOPBACK)) for _ in range(3)]
    told: list[Wire] = []
    for wire in wires:
        wire.when_cut(lambda wire=wire: told.append(wire))  # type: ignore[misc]
    held = asyncio.ensure_future(wires[0].ask("hold"))
    await wires[0].ask("double", 1)
    leaving = asyncio.ensure_future(door.close(20))
    # Called before the other side's word has come.
    late = [asyncio.ensure_future(wire.ask("double", number)) for number, wire in enumerate(wires)]
    assert await asyncio.gather(*late) == [0, 2, 4]
    await until_cut(*wires)
    with pytest.raises(NotSent):
        await wires[0].ask("double", 21)
    assert not leaving.done()
    other.go_on.set()
    assert await held == "held"
    await asyncio.wait_for(leaving, 10)
    assert sorted(map(id, told)) == sorted(map(id, wires))


async def test_a_caller_that_does_not_hear_of_the_leave_is_not_waited_for() -> None:
    other = Other()
    door = Door({"hold": other.hold})
    wire = await Wire.to(await door.address(LOOPBACK))
    held = asyncio.ensure_future(wire.ask("hold"))
    await asyncio.sleep(0)
    await asyncio.wait_for(door.close(0.05), 10)
    other.go_on.set()
    assert await held == "held"


async def test_a_timed_call_is_told_how_long_it_lay_there() -> None:
    lateness: list[float] = []

    async def note(late: float, value: int) -> int:
        lateness.append(late)
        return value

    address = await Door({}, timed={"note": note}).address(LOOPBACK)
    wire = await Wire.to(address)
    assert await wire.ask("note", 1) == 1
    late = asyncio.ensure_future(wire.ask("note", 2))
    await asyncio.sleep(0)
    # The whole process stands still, with the call on its way.
    time.sleep(0.3)  # noqa: ASYNC251
    assert await late == 2
    assert await wire.ask("note", 3) == 3
    assert lateness[0] == 0
    assert lateness[1] > 0.25
    assert lateness[2] < 0.25


async def until_cut(*wires: Wire) -> None:
    async def wait() -> None:
        while not all(wire.is_cut for wire in wires):
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), 10)

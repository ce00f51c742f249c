"""Calls between two processes by RPC; here both ends are in one."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import shutil
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cos_ray.cluster.endpoints import (
    LOOPBACK,
    Caller,
    Dialer,
    Endpoint,
    EndpointAddress,
    LocalAddress,
    RemoteAddress,
)
from cos_ray.system.certificates import TlsFiles
from cos_ray.transport import rpc_server
from cos_ray.transport.handshake import NEIGHBOUR, OCTETS, Greeting, own_keys
from cos_ray.transport.rpc import ConnectionLost, ConnectionSilent, NotSent, RpcConnection
from tests.support.authority import Authority
from tests.support.tcp_proxy import TcpProxy


class Other:
    """What is behind the endpoint."""

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


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """What comes before the other side closes, however it does."""
    got = bytearray()
    with contextlib.suppress(ConnectionError):
        while chunk := await asyncio.wait_for(reader.read(65536), 10):
            got += chunk
    return bytes(got)


METHODS = ("double", "hold", "fail", "unsendable", "note")


async def behind(other: Other) -> LocalAddress:
    return await Endpoint({name: getattr(other, name) for name in METHODS}).near()


async def to(endpoint: EndpointAddress) -> RpcConnection:
    return await Dialer().dial(endpoint)


async def test_calls_are_answered_as_they_are_done_and_not_in_their_order() -> None:
    other = Other()
    wire = await to(await behind(other))
    slow = asyncio.ensure_future(wire.ask("hold"))
    assert await asyncio.gather(*(wire.ask("double", number) for number in range(50))) == [
        2 * number for number in range(50)
    ]
    assert not slow.done()
    other.go_on.set()
    assert await slow == "held"


async def test_large_calls_arrive_whole() -> None:
    other = Other()
    wire = await to(await behind(other))
    large = bytes(5_000_000)
    await wire.ask("note", large)
    assert other.told == [large]


async def test_what_is_told_arrives_before_what_is_asked_later() -> None:
    other = Other()
    wire = await to(await behind(other))
    wire.tell("note", 1)
    await wire.ask("note", 2)
    assert other.told == [1, 2]


async def test_a_door_stays_where_it_is() -> None:
    endpoint = Endpoint({})
    first, second = await asyncio.gather(endpoint.near(), endpoint.near())
    assert first == second


async def test_without_the_secret_nothing_is_read() -> None:
    other = Other()
    endpoint = await behind(other)
    with pytest.raises(ConnectionLost, match="does not have the secret"):
        await to(replace(endpoint, secret=bytes(32)))
    # One who does not mind that the other side cannot show it either.
    greeting = Greeting(NEIGHBOUR, bytes(32))
    reader, writer = await asyncio.open_connection(LOOPBACK, endpoint.port)
    frame = pickle.dumps((0, 0.0, "note", (1,)))
    writer.write(greeting.opening)
    await reader.readexactly(2 * OCTETS)
    writer.write(bytes(OCTETS) + struct.pack("!I", len(frame)) + frame)
    assert await until_closed(reader) == b""
    assert other.told == []


async def test_callers_of_other_machines_are_let_in_if_they_were_told_of_and_no_others() -> None:
    endpoint, other = Endpoint({"double": Other().double}), Caller("elsewhere", bytes(range(1, 33)))
    told = await endpoint.far(other, LOOPBACK)
    with pytest.raises(ConnectionLost):
        await to(told)
    told = await endpoint.far(Caller("elsewhere", own_keys().public), LOOPBACK)
    assert await (await to(told)).ask("double", 2) == 4


async def test_nothing_that_travels_between_machines_opens_a_door() -> None:
    endpoint = Endpoint({"double": Other().double})
    caller = Caller("elsewhere", own_keys().public)
    told = await endpoint.far(caller, LOOPBACK)
    heard: list[bytes] = []
    async with TcpProxy(told.port) as listener:
        listener.is_poisonous = lambda data: bool(heard.append(data))  # type: ignore[func-returns-value]
        assert await (await to(replace(told, port=listener.port))).ask("double", 2) == 4
    # What was said on the connection, said again.
    reader, writer = await asyncio.open_connection(LOOPBACK, told.port)
    writer.write(b"".join(heard))
    # The endpoint's own number and proof, and nothing more.
    assert len(await until_closed(reader)) == 2 * OCTETS
    # The Ray call holds public keys, of which nobody else can make the secret.
    secret = own_keys().secret_as_caller(told.public_key)
    for shown in (pickle.dumps((caller, told)), b"".join(heard)):
        assert secret not in shown


async def test_who_does_not_show_the_secret_is_cut_off_and_holds_up_no_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = Endpoint({})
    near = await endpoint.near()
    monkeypatch.setattr(rpc_server, "GREET_WITHIN", 0.2)
    silent = [await asyncio.open_connection(LOOPBACK, near.port) for _ in range(20)]
    await asyncio.wait_for(endpoint.close(60), 10)
    for reader, writer in silent:
        assert await until_closed(reader) == b""
        writer.close()


async def test_a_door_that_does_not_show_the_secret_is_told_nothing() -> None:
    heard = bytearray()

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.readexactly(2 * OCTETS))
        writer.write(bytes(2 * OCTETS))
        heard.extend(await reader.read())
        writer.close()

    async with await asyncio.start_server(impostor, LOOPBACK, 0) as server:
        with pytest.raises(ConnectionLost, match="does not have the secret"):
            await to(LocalAddress(server.sockets[0].getsockname()[1], bytes(32)))
    assert len(heard) == 2 * OCTETS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files_of(authority: Authority) -> TlsFiles:
    return TlsFiles(*authority.issue("cos-ray.internal"), authority.ca_file)


async def far(endpoint: Endpoint) -> RemoteAddress:
    return await endpoint.far(Caller("elsewhere", own_keys().public), LOOPBACK)


async def test_between_machines_calls_are_encrypted_where_certificates_are_set(
    authority: Authority, tmp_path: Path
) -> None:
    files, other = files_of(authority), Other()
    endpoint = Endpoint({"note": other.note, "double": other.double}, tls=files)
    told = await far(endpoint)
    heard: list[bytes] = []
    async with TcpProxy(told.port) as listener:
        listener.is_poisonous = lambda data: bool(heard.append(data))  # type: ignore[func-returns-value]
        wire = await Dialer(files).dial(replace(told, port=listener.port))
        await wire.ask("note", "an amount of money")
        assert await wire.ask("double", 2) == 4
        large = bytes(5_000_000)
        await wire.ask("note", large)
    assert other.told == ["an amount of money", large]
    assert b"amount" not in b"".join(heard)
    # On one machine there is nobody to hide it from.
    assert await (await to(await endpoint.near())).ask("double", 2) == 4


async def test_between_machines_those_without_a_certificate_of_the_authority_are_kept_out(
    authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = files_of(Authority(tmp_path / "other"))
    files = files_of(authority)
    theirs = replace(stranger, ca=authority.ca_file)
    told = await far(Endpoint({"double": Other().double}, tls=files))
    for dialer in (Dialer(), Dialer(stranger), Dialer(theirs)):
        with pytest.raises(ConnectionLost):
            await dialer.dial(told)
    # And an endpoint without one is not talked to.
    plain, foreign = await far(Endpoint({})), await far(Endpoint({}, tls=theirs))
    for endpoint in (plain, foreign):
        with pytest.raises(ConnectionLost) as cut:
            await Dialer(files).dial(endpoint)
        assert not Dialer(files).allows_ray_calls(endpoint, cut.value)
        assert Dialer().allows_ray_calls(endpoint, cut.value)
    assert await (await Dialer(files).dial(told)).ask("double", 2) == 4


async def test_changed_certificates_are_taken_over_by_new_wires_and_cut_none(
    authority: Authority, tmp_path: Path
) -> None:
    files = files_of(authority)
    endpoint, dialer = Endpoint({"double": Other().double}, tls=files), Dialer(files)
    told = await far(endpoint)
    wire = await dialer.dial(told)
    # Another authority: only who has read its certificate as well is let in.
    (tmp_path / "next").mkdir()
    following = Authority(tmp_path / "next")
    for ours, theirs in zip(files.paths, files_of(following).paths, strict=True):
        await asyncio.to_thread(shutil.copy, theirs, ours)
    assert await (await dialer.dial(told)).ask("double", 2) == 4
    assert await (await Dialer(files_of(following)).dial(told)).ask("double", 3) == 6
    with pytest.raises(ConnectionLost):
        await Dialer(files_of(authority)).dial(told)
    assert await wire.ask("double", 4) == 8


async def test_a_door_with_unusable_certificates_opens_when_they_are_right(authority: Authority) -> None:
    files = files_of(authority)
    good = await asyncio.to_thread(Path(files.key).read_bytes)
    await asyncio.to_thread(Path(files.key).write_bytes, b"no key")
    endpoint = Endpoint({"double": Other().double}, tls=files)
    with pytest.raises(OSError, match="PEM"):
        await far(endpoint)
    await asyncio.to_thread(Path(files.key).write_bytes, good)
    assert await (await Dialer(files).dial(await far(endpoint))).ask("double", 2) == 4


async def test_who_says_nothing_on_a_door_with_tls_or_stops_within_its_handshake_is_cut_off(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_server, "GREET_WITHIN", 0.3)
    told = await far(Endpoint({}, tls=files_of(authority)))
    for sent in (b"", b"\x16\x03\x01\x02\x00\x01"):
        reader, writer = await asyncio.open_connection(LOOPBACK, told.port)
        writer.write(sent)
        assert await until_closed(reader) == b""
        writer.close()


async def test_an_error_that_no_one_foresaw_ends_its_call_and_no_other() -> None:
    wire = await to(await behind(Other()))
    with pytest.raises(ConnectionLost, match="ZeroDivisionError"):
        await wire.ask("fail")
    with pytest.raises(ConnectionLost, match="the call failed"):
        await wire.ask("unsendable", within=5)
    assert await wire.ask("double", 2) == 4


async def test_with_the_other_side_gone_every_call_ends_and_whoever_wants_is_told() -> None:
    other = Other()
    endpoint = await behind(other)
    async with TcpProxy(endpoint.port) as connection:
        wire = await to(replace(endpoint, port=connection.port))
        told = asyncio.Event()
        wire.when_cut(told.set)
        calls = [asyncio.ensure_future(wire.ask("hold")) for _ in range(3)]
        await wire.ask("double", 1)
        connection.cut_all()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [ConnectionLost] * 3
    await asyncio.wait_for(told.wait(), 5)
    with pytest.raises(ConnectionLost):
        await wire.ask("anything")
    other.go_on.set()


async def test_one_that_is_silent_for_too_long_is_cut_off() -> None:
    wire = await to(await behind(Other()))
    with pytest.raises(ConnectionLost):
        await wire.ask("hold", within=0.01)
    assert wire.is_cut


async def test_a_call_no_one_waits_for_any_more_does_no_harm() -> None:
    other = Other()
    wire = await to(await behind(other))
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
    with pytest.raises(ConnectionLost):
        await to(LocalAddress(port, bytes(32)))


async def test_frames_may_come_in_pieces() -> None:
    endpoint = await behind(Other())
    reader, writer = await asyncio.open_connection(LOOPBACK, endpoint.port)
    greeting = Greeting(NEIGHBOUR, endpoint.secret)
    for octet in greeting.opening:
        writer.write(bytes([octet]))
        await writer.drain()
        await asyncio.sleep(0)
    proof = greeting.proof_for(await reader.readexactly(2 * OCTETS))
    frame = pickle.dumps((7, 0.0, "double", (21,)))
    for octet in proof + struct.pack("!I", len(frame)) + frame:
        writer.write(bytes([octet]))
        await writer.drain()
        await asyncio.sleep(0)
    size = struct.unpack("!I", await reader.readexactly(4))[0]
    assert pickle.loads(await reader.readexactly(size)) == (7, 42)
    writer.close()


async def test_one_that_is_silent_is_cut_off_also_if_its_caller_has_given_up() -> None:
    wire = await to(await behind(Other()))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(wire.ask("hold", within=0.1), 0.01)
    with pytest.raises(ConnectionSilent):
        await wire.ask("hold")
    assert wire.is_cut


async def test_an_answer_that_comes_in_time_though_nobody_waits_cuts_nothing() -> None:
    other = Other()
    wire = await to(await behind(other))
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
    endpoint = Endpoint(methods)
    wires = [await to(await endpoint.near()) for _ in range(3)]
    told: list[RpcConnection] = []
    for wire in wires:
        wire.when_cut(lambda wire=wire: told.append(wire))  # type: ignore[misc]
    held = asyncio.ensure_future(wires[0].ask("hold"))
    await wires[0].ask("double", 1)
    leaving = asyncio.ensure_future(endpoint.close(20))
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
    endpoint = Endpoint({"hold": other.hold})
    wire = await to(await endpoint.near())
    held = asyncio.ensure_future(wire.ask("hold"))
    await asyncio.sleep(0)
    await asyncio.wait_for(endpoint.close(0.05), 10)
    other.go_on.set()
    assert await held == "held"


async def test_a_timed_call_is_told_how_long_it_lay_there() -> None:
    lateness: list[float] = []

    async def note(late: float, value: int) -> int:
        lateness.append(late)
        return value

    wire = await to(await Endpoint({}, timed={"note": note}).near())
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


async def until_cut(*wires: RpcConnection) -> None:
    async def wait() -> None:
        while not all(wire.is_cut for wire in wires):
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), 10)

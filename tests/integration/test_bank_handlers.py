"""The sample bank's handlers and client over real gRPC, and its processes."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any as Anything

import grpc
import grpc.aio
import pytest
from google.protobuf.any import pack
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

from cos_ray.protocol.pb.chief_of_state.v1.common_pb2 import MetaData
from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2 import HandleReadSideRequest
from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2_grpc import (
    ReadSideHandlerServiceStub,
    add_ReadSideHandlerServiceServicer_to_server,
)
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    GetStateRequest,
    GetStateResponse,
    ProcessCommandRequest,
    ProcessCommandResponse,
)
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import (
    ChiefOfStateServiceServicer,
    add_ChiefOfStateServiceServicer_to_server,
)
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import HandleCommandRequest, HandleEventRequest
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2_grpc import (
    WriteSideHandlerServiceStub,
    add_WriteSideHandlerServiceServicer_to_server,
)
from cos_ray.samples.bank.client import Bank, BankError, Statement
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import (
    Account,
    AccountOpened,
    Deposit,
    MoneyDeposited,
    OpenAccount,
    Withdraw,
)
from cos_ray.samples.bank.read_handler import Balance, BalanceTable, BankReadHandler, read_balances
from cos_ray.samples.bank.unpacking import unpack
from cos_ray.samples.bank.write_handler import BankWriteHandler

UNBORN = pack(Empty())
PATIENCE = 60.0
"""How long a process may take before a test gives up on it, in seconds."""


# The write handler


async def test_a_command_is_answered_with_its_events() -> None:
    async with write_handler() as handler:
        command = pack(OpenAccount(owner="Ada", opening_balance=5_00))
        reply = await handler.HandleCommand(HandleCommandRequest(command=command, prior_state=UNBORN))
    assert list(reply.events) == [pack(AccountOpened(owner="Ada")), pack(MoneyDeposited(amount=5_00))]


async def test_events_lead_from_state_to_state() -> None:
    async with write_handler() as handler:
        opened = HandleEventRequest(event=pack(AccountOpened(owner="Ada")), prior_state=UNBORN)
        state = (await handler.HandleEvent(opened)).resulting_state
        deposited = HandleEventRequest(event=pack(MoneyDeposited(amount=5_00)), prior_state=state)
        state = (await handler.HandleEvent(deposited)).resulting_state
    assert unpack(state, [Account]) == Account(owner="Ada", balance=5_00, is_open=True)


async def test_a_refusal_reaches_the_caller_word_for_word() -> None:
    state = pack(Account(owner="Ada", balance=20_00, is_open=True))
    async with write_handler() as handler:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await handler.HandleCommand(
                HandleCommandRequest(command=pack(Withdraw(amount=50_00)), prior_state=state)
            )
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "cannot withdraw 50.00: the balance is 20.00"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (
            pack(StringValue(value="hello")),
            "unknown message type 'type.googleapis.com/google.protobuf.StringValue'",
        ),
        (Any(), "unknown message type ''"),
        (Any(type_url=pack(Deposit()).type_url, value=b"\xff"), "malformed bank.v1.Deposit"),
    ],
)
async def test_what_is_no_command_of_the_bank_is_an_invalid_argument(command: Any, reason: str) -> None:
    async with write_handler() as handler:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await handler.HandleCommand(HandleCommandRequest(command=command, prior_state=UNBORN))
        assert (error.value.code(), error.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await handler.HandleEvent(HandleEventRequest(event=pack(StringValue()), prior_state=UNBORN))
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# The read handler


async def test_the_table_shows_every_account_as_of_its_last_event(tmp_path: Path) -> None:
    path = tmp_path / "balances.db"
    async with read_handler(path) as handler:
        assert (await handler.HandleReadSide(delivery("ada", 1, balance=0))).successful
        assert (await handler.HandleReadSide(delivery("bob", 1, balance=7))).successful
        assert (await handler.HandleReadSide(delivery("ada", 2, balance=5))).successful
        assert read_balances(path) == [Balance("ada", "Ada", 5, True, 2), Balance("bob", "Bob", 7, True, 1)]


async def test_an_event_that_comes_again_is_confirmed_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "balances.db"
    async with read_handler(path) as handler:
        for _ in range(2):
            assert (await handler.HandleReadSide(delivery("ada", 2, balance=5))).successful
        assert read_balances(path) == [Balance("ada", "Ada", 5, True, 2)]


async def test_an_old_event_does_not_turn_the_table_back(tmp_path: Path) -> None:
    path = tmp_path / "balances.db"
    async with read_handler(path) as handler:
        assert (await handler.HandleReadSide(delivery("ada", 3, balance=9))).successful
        assert (await handler.HandleReadSide(delivery("ada", 2, balance=5))).successful
        assert read_balances(path) == [Balance("ada", "Ada", 9, True, 3)]


async def test_deliveries_at_once_all_arrive_and_the_newest_stays(tmp_path: Path) -> None:
    path = tmp_path / "balances.db"
    async with read_handler(path) as handler:
        deliveries = [delivery(f"account-{n}", r, balance=r) for r in range(1, 6) for n in range(20)]
        replies = await asyncio.gather(*(handler.HandleReadSide(d) for d in deliveries))
        assert all(reply.successful for reply in replies)
        assert {(row.revision, row.balance) for row in read_balances(path)} == {(5, 5)}
        assert len(read_balances(path)) == 20


async def test_the_table_outlives_its_handler(tmp_path: Path) -> None:
    path = tmp_path / "balances #1.db"
    async with read_handler(path) as handler:
        await handler.HandleReadSide(delivery("ada", 2, balance=5))
    assert read_balances(path) == [Balance("ada", "Ada", 5, True, 2)]
    async with read_handler(path) as handler:
        await handler.HandleReadSide(delivery("ada", 1, balance=0))
    assert read_balances(path) == [Balance("ada", "Ada", 5, True, 2)]


async def test_an_event_that_cannot_be_written_is_not_confirmed(tmp_path: Path) -> None:
    with closing(BalanceTable(tmp_path / "balances.db")) as table:
        async with serving(add_ReadSideHandlerServiceServicer_to_server, BankReadHandler(table)) as channel:
            table.close()
            reply = await ReadSideHandlerServiceStub(channel).HandleReadSide(delivery("ada", 1, balance=0))
    assert not reply.successful


async def test_a_state_that_is_no_account_is_an_invalid_argument(tmp_path: Path) -> None:
    async with read_handler(tmp_path / "balances.db") as handler:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await handler.HandleReadSide(HandleReadSideRequest(state=pack(StringValue())))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# The client


class ScriptedService(ChiefOfStateServiceServicer):
    """Answers as the service would, and remembers what it was sent."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.requests: list[ProcessCommandRequest] = []

    async def ProcessCommand(
        self,
        request: ProcessCommandRequest,
        context: grpc.aio.ServicerContext[ProcessCommandRequest, ProcessCommandResponse],
    ) -> ProcessCommandResponse:
        self.requests.append(request)
        if request.command == pack(Withdraw(amount=50_00)):
            reason = "cannot withdraw 50.00: the balance is 20.00"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        meta = MetaData(entity_id=request.entity_id, revision_number=len(self.requests))
        return ProcessCommandResponse(state=self.state, meta=meta)

    async def GetState(
        self, request: GetStateRequest, context: grpc.aio.ServicerContext[GetStateRequest, GetStateResponse]
    ) -> GetStateResponse:
        if request.entity_id == "nobody":
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return GetStateResponse(
            state=self.state, meta=MetaData(entity_id=request.entity_id, revision_number=3)
        )


async def test_the_client_sends_commands_and_shows_states() -> None:
    service = ScriptedService(pack(Account(owner="Ada", balance=20_00, is_open=True)))
    async with serving(add_ChiefOfStateServiceServicer_to_server, service) as channel:
        bank = Bank(channel)
        assert await bank.open("ada", "Ada", 20_00) == Statement("ada", "Ada", 20_00, True, 1)
        assert (await bank.deposit("ada", 1)).revision == 2
        assert (await bank.close("ada")).revision == 3
        assert await bank.account("ada") == Statement("ada", "Ada", 20_00, True, 3)
    assert service.requests[0].command == pack(OpenAccount(owner="Ada", opening_balance=20_00))
    assert service.requests[1].command == pack(Deposit(amount=1))


async def test_the_clients_errors_are_readable() -> None:
    service = ScriptedService(pack(StringValue(value="something else")))
    async with serving(add_ChiefOfStateServiceServicer_to_server, service) as channel:
        bank = Bank(channel)
        with pytest.raises(BankError, match=r"^cannot withdraw 50.00: the balance is 20.00$") as error:
            await bank.withdraw("ada", 50_00)
        assert error.value.code is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(BankError, match=r"^there is no such account$"):
            await bank.account("nobody")
        with pytest.raises(BankError, match=r"^this is no account: "):
            await bank.account("ada")


# The processes


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
async def test_the_write_handlers_process_serves_until_told_to_stop(signal_: signal.Signals) -> None:
    async with process("write-handler", "--port", "0") as running:
        address = await announced(running, "bank write handler")
        async with grpc.aio.insecure_channel(address) as channel:
            request = HandleCommandRequest(command=pack(OpenAccount(owner="Ada")), prior_state=UNBORN)
            reply = await WriteSideHandlerServiceStub(channel).HandleCommand(request)
        assert len(reply.events) == 1
        running.send_signal(signal_)
        assert await asyncio.wait_for(running.wait(), PATIENCE) == 0


async def test_the_read_handlers_process_keeps_a_table_until_told_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "balances.db"
    async with process("read-handler", "--port", "0", "--database", str(path)) as running:
        address = await announced(running, "bank read handler")
        async with grpc.aio.insecure_channel(address) as channel:
            await ReadSideHandlerServiceStub(channel).HandleReadSide(delivery("ada", 1, balance=5))
        assert read_balances(path) == [Balance("ada", "Ada", 5, True, 1)]
        table = await run("balances", "--database", str(path))
        assert table == (0, ["ada: Ada, 0.05, open, revision 1"], [])
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), PATIENCE) == 0


async def test_a_port_in_use_is_said_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, errors = await run("write-handler", "--port", str(port))
    assert code == 1
    # gRPC may have logged a line of its own before.
    assert errors[-1] == f"cannot serve: 127.0.0.1:{port} cannot be listened on; is the port in use?"
    assert not any("Traceback" in line for line in errors)


async def test_a_database_that_cannot_be_opened_is_said_in_one_line(tmp_path: Path) -> None:
    code, _, errors = await run("read-handler", "--port", "0", "--database", str(tmp_path / "no" / "b.db"))
    assert (code, errors) == (1, ["cannot serve: unable to open database file"])


async def test_the_command_line_client_shows_the_account_or_the_reason() -> None:
    service = ScriptedService(pack(Account(owner="Ada", balance=20_00, is_open=True)))
    async with served(add_ChiefOfStateServiceServicer_to_server, service) as address:
        opened = await run("client", "--address", address, "open", "ada", "--owner", "Ada", "--balance", "20")
        refused = await run("client", "--address", address, "withdraw", "ada", "50")
        misspelt = await run("client", "--address", address, "deposit", "ada", "0.005")
    assert opened == (0, ["ada: Ada, 20.00, open, revision 1"], [])
    assert refused == (1, [], ["INVALID_ARGUMENT: cannot withdraw 50.00: the balance is 20.00"])
    assert misspelt[0] != 0
    assert "fractions" in "".join(misspelt[2])
    assert service.requests[0].command == pack(OpenAccount(owner="Ada", opening_balance=20_00))


def delivery(account_id: str, revision: int, balance: int) -> HandleReadSideRequest:
    """An event as the service delivers it."""
    return HandleReadSideRequest(
        event=pack(MoneyDeposited(amount=balance)),
        state=pack(Account(owner=account_id.capitalize(), balance=balance, is_open=True)),
        meta=MetaData(entity_id=account_id, revision_number=revision),
        read_side_id="balances",
    )


@asynccontextmanager
async def served(add_to_server: Anything, servicer: Anything) -> AsyncIterator[str]:
    """The address of a server with this service."""
    server = grpc.aio.server()
    add_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def serving(add_to_server: Anything, servicer: Anything) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server with this service."""
    async with served(add_to_server, servicer) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


@asynccontextmanager
async def write_handler() -> AsyncIterator[Anything]:
    """A stub of a running write handler."""
    async with serving(add_WriteSideHandlerServiceServicer_to_server, BankWriteHandler()) as channel:
        yield WriteSideHandlerServiceStub(channel)


@asynccontextmanager
async def read_handler(path: Path) -> AsyncIterator[Anything]:
    """A stub of a running read handler that writes to this file."""
    with closing(BalanceTable(path)) as table:
        async with serving(add_ReadSideHandlerServiceServicer_to_server, BankReadHandler(table)) as channel:
            yield ReadSideHandlerServiceStub(channel)


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of the bank's module, killed at the end if it still runs."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cos_ray.samples.bank",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def announced(running: asyncio.subprocess.Process, name: str) -> str:
    """The address the process says it listens on."""
    assert running.stdout is not None
    line = (await asyncio.wait_for(running.stdout.readline(), PATIENCE)).decode().rstrip()
    match = re.fullmatch(rf"{name} listening on (127\.0\.0\.1:[1-9]\d*)", line)
    assert match, line
    return match[1]


async def run(*arguments: str) -> tuple[int | None, list[str], list[str]]:
    """The exit status of a process of the bank's module, and the lines it wrote."""
    async with process(*arguments) as running:
        output, errors = await asyncio.wait_for(running.communicate(), PATIENCE)
        return running.returncode, output.decode().splitlines(), errors.decode().splitlines()

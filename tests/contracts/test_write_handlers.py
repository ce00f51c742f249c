"""The port WriteHandler, kept by all three kinds: what the bank answers, and what trouble becomes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any as Anything

import grpc
import pytest
from google.protobuf.any import pack as any_of
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import BytesValue, StringValue

from cos_ray import Rejected
from cos_ray.domain.decisions import NoChange, Persist
from cos_ray.domain.errors import Code, HandlerFailed, Status
from cos_ray.domain.ids import CommandId, EntityId, Shard
from cos_ray.domain.messages import Accepted, Command, Header, Packed, Refused
from cos_ray.handlers.endpoints import PythonEndpoint
from cos_ray.ports import WriteHandler
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import (
    HandleCommandRequest,
    HandleCommandResponse,
    HandleEventResponse,
)
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import (
    Account,
    AccountOpened,
    CloseAccount,
    Deposit,
    MoneyDeposited,
    Withdraw,
)
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.writeside.entity import Entity
from tests.support import handler as kit
from tests.support.handler import (
    KINDS,
    GrpcStage,
    HttpStage,
    ScriptedApplication,
    ask,
    bank,
    events_of,
    evolve,
)
from tests.support.tcp_proxy import TcpProxy

FUNDED = kit.state_of(Account(owner="Ada", balance=20_00, is_open=True), revision=2)
BIG = b"x" * 50_000_000
serials = itertools.count()


@pytest.fixture(params=KINDS)
async def handler(request: pytest.FixtureRequest) -> AsyncIterator[WriteHandler]:
    """The bank's write handler, in each kind."""
    async with bank(request.param) as handler:
        yield handler


async def failure(call: Anything) -> Status:
    with pytest.raises(HandlerFailed) as caught:
        await call
    return caught.value.status


class TestTheBank:
    """One set of sentences, true of all three kinds."""

    async def test_a_command_leads_to_its_events_in_order(self, handler: WriteHandler) -> None:
        expected = [any_of(AccountOpened(owner="Ada")), any_of(MoneyDeposited(amount=5_00))]
        assert events_of(await ask(handler)) == expected

    async def test_events_lead_from_state_to_state(self, handler: WriteHandler) -> None:
        state = await evolve(handler, AccountOpened(owner="Ada"))
        prior = replace(FUNDED, state=state)
        after = await evolve(handler, MoneyDeposited(amount=5_00), prior)
        assert kit.unpacked(after, Account) == Account(owner="Ada", balance=5_00, is_open=True)

    @pytest.mark.parametrize(
        ("command", "prior", "code", "reason"),
        [
            (
                Withdraw(amount=50_00),
                FUNDED,
                Code.INVALID_ARGUMENT,
                "cannot withdraw 50.00: the balance is 20.00",
            ),
            (Deposit(amount=1), kit.UNBORN, Code.NOT_FOUND, "there is no such account"),
            (kit.OPEN, FUNDED, Code.ALREADY_EXISTS, "the account is open already, for Ada"),
            (
                CloseAccount(),
                FUNDED,
                Code.FAILED_PRECONDITION,
                "cannot close the account: the balance is 20.00",
            ),
        ],
    )
    async def test_a_refusal_arrives_word_for_word(
        self, handler: WriteHandler, command: Anything, prior: Anything, code: Code, reason: str
    ) -> None:
        assert await failure(ask(handler, command, prior)) == Status(code, reason)

    @pytest.mark.parametrize(
        "command", [kit.packed(StringValue(value="hello")), Packed(b""), Packed(b"\x12\x01\xff")]
    )
    async def test_what_is_no_command_of_the_bank_is_an_invalid_argument(
        self, handler: WriteHandler, command: Packed
    ) -> None:
        status = await failure(handler.handle_command(command, kit.UNBORN, (), 10))
        assert status.code is Code.INVALID_ARGUMENT

    async def test_a_command_whose_bytes_are_broken_is_an_invalid_argument(
        self, handler: WriteHandler
    ) -> None:
        broken = Any(type_url=any_of(Deposit()).type_url, value=b"\xff").SerializeToString()
        status = await failure(handler.handle_command(Packed(broken), FUNDED, (), 10))
        assert status.code is Code.INVALID_ARGUMENT

    async def test_calls_at_once_get_each_its_own_answer(self, handler: WriteHandler) -> None:
        answers = await asyncio.gather(
            *(ask(handler, Deposit(amount=n), FUNDED) for n in range(1, 101)), return_exceptions=True
        )
        expected = [Persist((kit.packed(MoneyDeposited(amount=n)),)) for n in range(1, 101)]
        assert answers == expected

    async def test_an_entity_runs_its_commands_through_it(self, handler: WriteHandler) -> None:
        entity = Entity(EntityId("ada"), Shard(0), handler, MemoryJournal(), SystemClock())
        outcomes: list[object] = []
        for command in (kit.OPEN, Deposit(amount=1), Withdraw(amount=9_00), Deposit(amount=2)):
            id_ = CommandId(f"c{next(serials)}")
            reply = await entity.process(Command(EntityId("ada"), kit.packed(command), id_, 10.0))
            match reply:
                case Accepted(state):
                    balance = kit.unpacked(state.state, Account).balance
                    outcomes.append((balance, state.meta.revision))
                case Refused(status):
                    outcomes.append(status.code)
        assert outcomes == [(5_00, 2), (5_01, 3), Code.INVALID_ARGUMENT, (5_03, 4)]


GRPC_TROUBLE = {
    "bytes that are no message": (b"\xff", Code.INTERNAL),
    "50 MB": (HandleCommandResponse(events=[any_of(BytesValue(value=BIG))]), Code.RESOURCE_EXHAUSTED),
    "a rejection": ((grpc.StatusCode.ABORTED, "no", ()), Code.ABORTED),
}
HTTP_TROUBLE = {
    "a page of HTML": ((200, "text/html", "<html>Welcome</html>"), Code.INTERNAL),
    "an error page": ((502, "text/html", "<html>Bad gateway</html>"), Code.UNAVAILABLE),
    "events that are no list": ((200, "application/json", '{"events": 5}'), Code.INTERNAL),
    "events that are no text": ((200, "application/json", '{"events": [5]}'), Code.INTERNAL),
    "events that are no base64": ((200, "application/json", '{"events": ["?"]}'), Code.INTERNAL),
    "events that are no Any": ((200, "application/json", '{"events": ["/w=="]}'), Code.INTERNAL),
    "a list": ((200, "application/json", "[]"), Code.INTERNAL),
    "nothing": ((200, "application/json", ""), Code.INTERNAL),
    "bytes that are no text": ((200, "application/json", b"\xff\xfe\xfd"), Code.INTERNAL),
    "depth without end": ((200, "application/json", "[" * 200_000), Code.INTERNAL),
    "50 MB": ((200, "application/json", BIG), Code.RESOURCE_EXHAUSTED),
    "what is no HTTP": (b"\x15\x03\x01\x00\x02\x02\x46", Code.UNAVAILABLE),
    "a reply cut short": (b"HTTP/1.1 200 X\r\ncontent-length: 99\r\n\r\n{", Code.UNAVAILABLE),
    "a success that is not 200": ((204, "application/json", ""), Code.INTERNAL),
    "a redirection": ((307, "text/plain", ""), Code.INTERNAL),
    "a rejection": ((409, "application/json", '{"error": "ABORTED: no"}'), Code.ABORTED),
}


def raising(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


PYTHON_TROUBLE = {
    "an exception": (raising(ValueError("secret")), Code.INTERNAL),
    "the end of the process": (raising(SystemExit(1)), Code.INTERNAL),
    "a cancellation": (raising(asyncio.CancelledError()), Code.INTERNAL),
    "the end of an iterator": (raising(StopIteration()), Code.INTERNAL),
    "a number": (lambda: 5, Code.INTERNAL),
    "one message instead of a list": (AccountOpened, Code.INTERNAL),
    "a list of what is no message": (lambda: ["opened"], Code.INTERNAL),
    "50 MB": (lambda: [BytesValue(value=BIG)], Code.RESOURCE_EXHAUSTED),
    "a rejection": (raising(Rejected(Code.ABORTED, "no")), Code.ABORTED),
    "a rejection with details that are none": (raising(Rejected(Code.ABORTED, "no", 5)), Code.INTERNAL),
}


@pytest.mark.parametrize("trouble", GRPC_TROUBLE)
async def test_grpc_trouble_has_its_code_and_the_next_call_works(trouble: str) -> None:
    await _met_and_over(GrpcStage(), *GRPC_TROUBLE[trouble])


@pytest.mark.parametrize("trouble", HTTP_TROUBLE)
async def test_http_trouble_has_its_code_and_the_next_call_works(trouble: str) -> None:
    await _met_and_over(HttpStage(), *HTTP_TROUBLE[trouble])


async def _met_and_over(stage: GrpcStage | HttpStage, answer: object, code: Code) -> None:
    async def misbehave(request: object) -> object:
        return answer

    async with stage.listening() as port:
        handler = kit.built(stage.target("127.0.0.1", port))
        stage.answer = misbehave
        status = await failure(ask(handler))
        assert status.code is code
        assert "Traceback" not in status.message
        assert "<html>" not in status.message
        stage.answer = kit.good
        assert len(events_of(await ask(handler))) == 1
        await handler.close()


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], Anything]:
    """Lets the application's handle_command do something else, and answers how to undo that."""

    def do(what: Callable[[], object]) -> Callable[[], None]:
        monkeypatch.setattr(ScriptedApplication, "command", staticmethod(what))
        return monkeypatch.undo

    return do


@pytest.mark.parametrize("trouble", PYTHON_TROUBLE)
async def test_python_trouble_has_its_code_and_the_next_call_works(
    trouble: str, application: Anything
) -> None:
    what, code = PYTHON_TROUBLE[trouble]
    handler = kit.built(PythonEndpoint("tests.support.handler:ScriptedApplication"))
    undo = application(what)
    status = await failure(ask(handler))
    assert status.code is code
    assert "secret" not in status.message
    undo()
    assert len(events_of(await ask(handler))) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_without_a_state_is_an_invalid_argument(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Status(Code.INVALID_ARGUMENT, "event handler replied with empty state")
    if kind == "python":
        monkeypatch.setattr(ScriptedApplication, "event", staticmethod(lambda: None))
        handler = kit.built(PythonEndpoint("tests.support.handler:ScriptedApplication"))
        assert await failure(evolve(handler, AccountOpened())) == expected
        return
    stage = {"grpc": GrpcStage, "http": HttpStage}[kind]()

    async def say_nothing(request: object) -> object:
        return HandleEventResponse() if kind == "grpc" else (200, "application/json", "{}")

    stage.answer = say_nothing
    async with stage.listening() as port:
        handler = kit.built(stage.target("127.0.0.1", port))
        assert await failure(evolve(handler, AccountOpened())) == expected
        await handler.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_state_of_another_type_than_before_is_refused_and_nothing_is_stored(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter([Account(owner="Ada"), StringValue(value="Ada")])
    journal = MemoryJournal()

    async def answer(request: object) -> object:
        if isinstance(request, HandleCommandRequest):
            return await kit.good(request)
        return HandleEventResponse(resulting_state=any_of(next(states)))

    async def run(handler: WriteHandler) -> None:
        # Woken anew for each command, as after a restart of the handler.
        for expected in (Accepted, Refused):
            entity = Entity(EntityId("ada"), Shard(0), handler, journal, SystemClock())
            id_ = CommandId(f"c{next(serials)}")
            reply = await entity.process(Command(EntityId("ada"), kit.packed(kit.OPEN), id_, 10.0))
            assert isinstance(reply, expected), reply
        text = "state type changed from bank.v1.Account to google.protobuf.StringValue; "
        text += "declare it (COS_TYPE_RENAMES) or set COS_TYPE_CHANGES=allow"
        assert reply == Refused(Status(Code.FAILED_PRECONDITION, text))
        newest = await journal.newest(EntityId("ada"))
        assert newest is not None
        assert newest.meta.revision == 1

    if kind == "python":
        monkeypatch.setattr(ScriptedApplication, "event", staticmethod(lambda: next(states)))
        await run(kit.built(PythonEndpoint("tests.support.handler:ScriptedApplication")))
        return
    stage = {"grpc": GrpcStage, "http": HttpStage}[kind]()
    stage.answer = answer
    async with stage.listening() as port:
        handler = kit.built(stage.target("127.0.0.1", port))
        await run(handler)
        await handler.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rejection_s_details_arrive_as_they_are(kind: str, application: Anything) -> None:
    expected = Status(Code.ABORTED, "no", b"\x08\x0a\xff")
    trailers = (("grpc-status-details-bin", expected.details),)

    async def reject(request: object) -> object:
        if kind == "grpc":
            return (grpc.StatusCode.ABORTED, "no", trailers)
        return (409, "application/json", '{"error": "ABORTED: no", "details": "CAr/"}')

    if kind == "python":
        application(raising(Rejected(Code.ABORTED, "no", expected.details)))
        handler = kit.built(PythonEndpoint("tests.support.handler:ScriptedApplication"))
        assert await failure(ask(handler)) == expected
        return
    stage = {"grpc": GrpcStage, "http": HttpStage}[kind]()
    stage.answer = reject
    async with stage.listening() as port:
        handler = kit.built(stage.target("127.0.0.1", port))
        assert await failure(ask(handler)) == expected
        await handler.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_no_event_is_no_change(kind: str, application: Anything) -> None:
    async def say_nothing(request: object) -> object:
        return HandleCommandResponse(event=Any(), events=[Any()])

    if kind == "python":
        application(lambda: None)
        assert await ask(kit.built(PythonEndpoint("tests.support.handler:ScriptedApplication"))) == NoChange()
        return
    stage = {"grpc": GrpcStage, "http": HttpStage}[kind]()
    stage.answer = say_nothing
    async with stage.listening() as port:
        handler = kit.built(stage.target("127.0.0.1", port))
        assert await ask(handler) == NoChange()
        await handler.close()


@pytest.mark.parametrize("stage", [GrpcStage(), HttpStage()], ids=["grpc", "http"])
async def test_headers_arrive_in_order_binary_and_repeated_ones_as_well(
    stage: GrpcStage | HttpStage,
) -> None:
    headers = (Header("x-who", "me"), Header("X-Who", "you"), Header("x-key-bin", b"\x00\xff"))
    async with stage.listening() as port:
        handler = kit.built(stage.target("127.0.0.1", port))
        await ask(handler, headers=headers)
        await evolve(handler, AccountOpened())
        await handler.close()
    # What the service itself says to a handler over HTTP begins with x-cos-.
    theirs = [[(k, v) for k, v in each if k.startswith("x-")] for each in stage.headers]
    received = [(k, v) for k, v in theirs[0] if not k.startswith("x-cos-")]
    binary: object = b"\x00\xff" if isinstance(stage, GrpcStage) else "AP8="
    assert received == [("x-who", "me"), ("x-who", "you"), ("x-key-bin", binary)]
    assert not [key for key, _ in theirs[1] if not key.startswith("x-cos-")]


@pytest.mark.parametrize("stage", [GrpcStage(), HttpStage()], ids=["grpc", "http"])
@pytest.mark.parametrize("header", [Header("x-a", "line\nbreak"), Header("x-a", "größe\ud800")])
async def test_a_header_that_cannot_be_sent_is_an_invalid_argument(
    stage: GrpcStage | HttpStage, header: Header
) -> None:
    async with stage.listening() as port:
        handler = kit.built(stage.target("127.0.0.1", port))
        assert (await failure(ask(handler, headers=(header,)))).code is Code.INVALID_ARGUMENT
        assert len(events_of(await ask(handler))) == 1
        await handler.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_late_answer_is_a_missed_deadline_and_disturbs_no_later_call(
    kind: str, application: Anything
) -> None:
    async def dawdle(request: object) -> object:
        await asyncio.sleep(0.3)
        return HandleCommandResponse()

    if kind == "python":
        handler = kit.built(PythonEndpoint("tests.support.handler:ScriptedApplication"))
        undo = application(kit.slow(0.3))
        assert (await failure(ask(handler, timeout=0.1))).code is Code.DEADLINE_EXCEEDED
        undo()
        assert len(events_of(await ask(handler))) == 1
        return
    stage = {"grpc": GrpcStage, "http": HttpStage}[kind]()
    async with stage.listening() as port:
        handler = kit.built(stage.target("127.0.0.1", port))
        await ask(handler)
        stage.answer = dawdle
        assert (await failure(ask(handler, timeout=0.1))).code is Code.DEADLINE_EXCEEDED
        stage.answer = kit.good
        assert len(events_of(await ask(handler))) == 1
        await asyncio.sleep(0.3)
        assert len(events_of(await ask(handler))) == 1
        await handler.close()


@pytest.mark.parametrize("stage", [GrpcStage(), HttpStage()], ids=["grpc", "http"])
async def test_a_handler_that_dies_mid_call_and_comes_back_is_found_again(
    stage: GrpcStage | HttpStage,
) -> None:
    async with stage.listening() as port, TcpProxy(port) as wire:
        handler = kit.built(stage.target("127.0.0.1", wire.port))

        async def die(request: object) -> object:
            wire.refuses = True
            wire.cut_all()
            return HandleCommandResponse()

        for _ in range(3):  # it flaps
            assert len(events_of(await kit.until_answered(handler))) == 1
            stage.answer = die
            assert (await failure(ask(handler))).code is Code.UNAVAILABLE
            assert (await failure(ask(handler))).code is Code.UNAVAILABLE
            stage.answer = kit.good
            wire.refuses = False
        await handler.close()

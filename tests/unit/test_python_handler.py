"""Python handlers: how a class is looked over, and what its annotations say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import typing
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from cos_ray import CommandMeta, Header, Meta, Rejected
from cos_ray.domain.decisions import Decision, Persist
from cos_ray.domain.errors import Code, ConfigurationError, HandlerFailed, Status
from cos_ray.domain.messages import EMPTY_STATE, NOTHING, Packed
from cos_ray.handlers.endpoints import PythonEndpoint
from cos_ray.handlers.python_application import fault_of, load
from cos_ray.handlers.python_types import Parameter, parameter
from cos_ray.handlers.python_write import PythonWriteHandler, python_write_handler
from tests.support.handler import ADA, UNBORN, ask, events_of, evolve, packed, unpacked

ONE = Int64Value(value=1)


class Whole:
    """A handler that remembers what it was called with."""

    calls: typing.ClassVar[list[tuple[object, ...]]] = []

    def handle_command(
        self, command: Int64Value, prior_state: StringValue | None, meta: CommandMeta
    ) -> list[Int64Value]:
        self.calls.append((command, prior_state, meta, threading.current_thread()))
        return [command]

    def handle_event(self, event: Int64Value, prior_state: StringValue, meta: Meta) -> StringValue:
        self.calls.append((event, prior_state, meta))
        return StringValue(value=prior_state.value + "+")


class Async:
    """The same, async and without annotations."""

    async def handle_command(self, command, prior_state, meta):
        await asyncio.sleep(0)
        if threading.current_thread() is not threading.main_thread() or prior_state is not None:
            raise Rejected(Code.ABORTED, "not here")
        return iter([command])

    async def handle_event(self, event, prior_state, meta):
        await asyncio.sleep(3600 if event.value == 2 else 0)
        return event


class Detailed(Whole):
    def handle_command(self, command: Message, prior_state: Any, meta: object) -> list[Message]:
        raise Rejected(Code.NOT_FOUND, "no", StringValue(value="why"))


class WithArguments(Whole):
    def __init__(self, name: str) -> None: ...


class WithoutEvents:
    def handle_command(self, command: object, prior_state: object, meta: object) -> None: ...


class TakesTooFew(Whole):
    def handle_event(self, event: Int64Value) -> StringValue: ...  # type: ignore[override]


class Generates(Whole):
    async def handle_command(self, command, prior_state, meta):  # type: ignore[override]
        yield command


class TakesText(Whole):
    def handle_command(self, command: str, prior_state: None, meta: object) -> list[Message]: ...  # type: ignore[override]


class Unresolved(Whole):
    def handle_command(self, command: Nowhere, prior_state: None, meta: object) -> list[Message]: ...  # type: ignore[override,name-defined] # noqa: F821


class CannotBeMade(Whole):
    def __init__(self) -> None:
        raise OSError("no such table")


@pytest.fixture(autouse=True)
def forget() -> None:
    Whole.calls.clear()


def target(name: str) -> PythonEndpoint:
    return PythonEndpoint(f"{__name__}:{name}")


def handler(name: str, limit: int = 10_000) -> PythonWriteHandler:
    return PythonWriteHandler(load(target(name)), timedelta(seconds=10), limit)


async def failure(call: typing.Awaitable[object]) -> Status:
    with pytest.raises(HandlerFailed) as caught:
        await call
    return caught.value.status


async def test_messages_come_unpacked_and_are_packed() -> None:
    headers = (Header("x-who", "me"),)
    decision: Decision = await ask(handler("Whole"), ONE, headers=headers)
    assert decision == Persist((packed(ONE),))
    command, state, meta, thread = Whole.calls[0]
    assert (command, state, meta) == (ONE, None, CommandMeta(*_fields(UNBORN.meta), headers))
    assert thread is not threading.main_thread()


def _fields(meta: Meta) -> tuple[typing.Any, ...]:
    return (meta.entity_id, meta.revision, meta.date, meta.headers, meta.data)


async def test_without_none_in_its_annotation_a_state_begins_as_a_new_message() -> None:
    state = await evolve(handler("Whole"), ONE)
    assert unpacked(state, StringValue).value == "+"
    assert Whole.calls[0] == (ONE, StringValue(), Meta(ADA, 1))  # type: ignore[arg-type]


async def test_an_async_handler_runs_in_the_event_loop() -> None:
    assert events_of(await ask(handler("Async"), ONE))[0].TypeName() == "google.protobuf.Int64Value"


async def test_an_async_handler_keeps_its_deadline_too() -> None:
    one = handler("Async")
    late = Int64Value(value=2)
    assert (await failure(evolve(one, late, timeout=0.05))).code is Code.DEADLINE_EXCEEDED
    assert unpacked(await evolve(one, ONE), Int64Value) == ONE


async def test_a_rejection_carries_its_details() -> None:
    status = await failure(ask(handler("Detailed"), ONE))
    assert status == Status(Code.NOT_FOUND, "no", StringValue(value="why").SerializeToString())


async def test_a_command_of_another_type_than_annotated_is_invalid() -> None:
    status = await failure(ask(handler("Whole"), StringValue(value="x")))
    assert status == Status(
        Code.INVALID_ARGUMENT, "invalid command: type.googleapis.com/google.protobuf.StringValue"
    )


async def test_an_event_larger_than_the_limit_is_turned_away() -> None:
    status = await failure(evolve(handler("Async", limit=20), Int64Value(value=1)))
    assert status.code is Code.RESOURCE_EXHAUSTED


class Gated:
    """A plain handler: the number 2 waits at a gate, as if it computed for long."""

    gate = threading.Event()
    entered = threading.Event()
    ran: typing.ClassVar[list[int]] = []

    def handle_command(self, command: Int64Value, prior_state: object, meta: object) -> list[Message]:
        self.ran.append(command.value)
        if command.value == 2:
            self.entered.set()
            self.gate.wait(30)
        return [command]

    def handle_event(self, event: Int64Value, prior_state: object, meta: object) -> Message:
        return event


@pytest.fixture
def gated() -> Iterator[type[Gated]]:
    Gated.gate.clear()
    Gated.entered.clear()
    Gated.ran.clear()
    yield Gated
    Gated.gate.set()


async def until(is_true: typing.Callable[[], bool]) -> None:
    while not is_true():
        await asyncio.sleep(0.001)


async def test_a_plain_handler_that_takes_long_stalls_nobody_else(gated: type[Gated]) -> None:
    one = handler("Gated")
    long = asyncio.ensure_future(ask(one, Int64Value(value=2)))
    await until(gated.entered.is_set)
    for _ in range(10):
        assert len(events_of(await ask(one, ONE))) == 1
    assert not long.done()
    gated.gate.set()
    assert len(events_of(await long)) == 1


async def test_with_every_thread_taken_a_call_waits_within_its_deadline(gated: type[Gated]) -> None:
    one = PythonWriteHandler(load(target("Gated")), timedelta(seconds=10), 10_000, threads=1)
    assert (await failure(ask(one, Int64Value(value=2), timeout=0.05))).code is Code.DEADLINE_EXCEEDED
    assert (await failure(ask(one, Int64Value(value=3), timeout=0.05))).code is Code.DEADLINE_EXCEEDED
    gated.gate.set()
    assert len(events_of(await ask(one, ONE))) == 1
    assert gated.ran == [2, 1]


async def test_a_call_whose_client_is_gone_is_not_waited_for(gated: type[Gated]) -> None:
    one = handler("Gated")
    call = asyncio.ensure_future(ask(one, Int64Value(value=2)))
    await until(gated.entered.is_set)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert len(events_of(await ask(one, ONE))) == 1


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (None, Parameter()),
        (typing.Any, Parameter()),
        (Message, Parameter()),
        (Message | None, Parameter()),
        (StringValue, Parameter((StringValue,), takes_none=False)),
        (StringValue | None, Parameter((StringValue,), takes_none=True)),
        (typing.Optional[StringValue], Parameter((StringValue,), takes_none=True)),  # noqa: UP045
        (typing.Union[StringValue, Empty], Parameter((StringValue, Empty), takes_none=False)),  # noqa: UP007
    ],
)
def test_an_annotation_says_what_a_parameter_takes(annotation: object, expected: Parameter) -> None:
    assert parameter(annotation) == expected


@pytest.mark.parametrize(
    ("annotation", "unborn"),
    [
        (None, None),
        (StringValue | None, None),
        (StringValue, StringValue()),
        (StringValue | Empty, Empty()),
        (Any, Any(type_url="type.googleapis.com/google.protobuf.Empty")),
    ],
)
def test_before_its_first_event_an_entity_has_what_the_annotation_allows(
    annotation: object, unborn: object
) -> None:
    assert parameter(annotation).state(EMPTY_STATE) == unborn


def test_a_missing_state_counts_as_none_yet() -> None:
    assert parameter(StringValue).state(NOTHING) == StringValue()


def test_bytes_that_are_no_any_are_told_apart() -> None:
    with pytest.raises(Exception, match=r"no google\.protobuf\.Any"):
        parameter(StringValue).value(Packed(b"\xff"))


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("nowhere.at_all:X", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        (f"{__name__}:Nobody", f"is no class: {__name__} has none of that name"),
        (f"{__name__}:WithArguments", "must be made without arguments, but has a missing a required"),
        (f"{__name__}:WithoutEvents", "has no method handle_event"),
        (f"{__name__}:TakesTooFew", "handle_event must take (event, prior_state, meta), but too many"),
        (f"{__name__}:Generates", "handle_command is an async generator"),
        (f"{__name__}:TakesText", "annotations that cannot be used: str is no protobuf message"),
        (f"{__name__}:Unresolved", "annotations that cannot be used: name 'Nowhere' is not defined"),
        (f"{__name__}:CannotBeMade", "cannot be made: OSError: no such table"),
    ],
)
def test_what_is_wrong_with_a_class_is_one_line(reference: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(PythonEndpoint(reference))
    line = str(caught.value)
    assert line.startswith(f"COS_WRITE_SIDE_HANDLER: {reference} ")
    assert fault in line
    assert "\n" not in line


async def test_where_a_class_cannot_be_loaded_every_call_says_so() -> None:
    one = python_write_handler(target("CannotBeMade"), timedelta(seconds=1))
    for call in (ask(one, ONE), evolve(one, ONE)):
        assert await failure(call) == Status(Code.INTERNAL, "write handler cannot be loaded")


class TestTheCheckInAProcessOfItsOwn:
    def of(self, folder: Path, source: str) -> str | None:
        (folder / "app.py").write_text(source)
        return fault_of(PythonEndpoint("app:Handler", str(folder)))

    def test_finds_a_good_class_in_the_folder(self, tmp_path: Path) -> None:
        source = "class Handler:\n    def __init__(self): raise OSError\n"
        source += "".join(f"    def handle_{name}(self, a, b, c): ...\n" for name in ("command", "event"))
        assert self.of(tmp_path, "print('hello')\n" + source) is None

    def test_says_what_is_missing(self, tmp_path: Path) -> None:
        fault = self.of(tmp_path, "print('hello')\nclass Handler: ...")
        assert fault == "COS_WRITE_SIDE_HANDLER: app:Handler has no method handle_command"

    def test_outlives_a_module_that_ends_its_process(self, tmp_path: Path) -> None:
        fault = self.of(tmp_path, "import os; os._exit(7)")
        assert fault is not None
        assert "status 7" in fault


LIGHT = [
    ("cos_ray", {"google", "grpc", "httpx", "pydantic", "ray"}),
    ("cos_ray.bootstrap.handlers", {"google", "grpc", "httpx", "pydantic", "fastapi"}),
    ("cos_ray.handlers.python_write", {"grpc", "httpx", "pydantic", "fastapi"}),
    ("cos_ray.handlers.grpc_write", {"httpx", "pydantic", "fastapi"}),
    ("cos_ray.handlers.http_write", {"grpc", "pydantic", "fastapi"}),
    ("cos_ray.bootstrap.entity", {"httpx", "fastapi"}),
]


@pytest.mark.parametrize(("module", "heavy"), LIGHT, ids=[module for module, _ in LIGHT])
def test_importing_it_brings_along_nothing_heavy(module: str, heavy: set[str]) -> None:
    program = f"import sys, {module}; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

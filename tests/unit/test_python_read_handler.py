"""Read handlers written in Python: what they are given, what confirms, and what does not."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import Any as Anything

import pytest
from google.protobuf.any import pack
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from cos_ray import Delivered, DeliveryMeta
from cos_ray.domain.errors import DeliveryFailed
from cos_ray.domain.ids import EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.messages import EventEnvelope, Meta, Packed
from cos_ray.handlers.endpoints import PythonEndpoint
from cos_ray.handlers.python_application import READ_SIDE, fault_of, load_reader
from cos_ray.handlers.python_read import UnloadableReadHandler, python_read_handler
from cos_ray.ports import BatchReadHandler

READER = ReadSideId("r")


class Plain:
    seen: list[Delivered] = []  # noqa: RUF012

    def handle(self, event: StringValue, state: Int64Value, meta: DeliveryMeta) -> None:
        assert threading.current_thread() is not threading.main_thread()
        Plain.seen.append(Delivered(event, state, meta))


class Scripted:
    """Does what the event says."""

    async def handle(self, event: StringValue, state: Any, meta: DeliveryMeta) -> object:
        match event.value:
            case "sleep":
                await asyncio.sleep(60)
            case "exit":
                raise SystemExit(3)
            case "raise":
                raise ValueError("no such table")
            case "odd":
                raise ValueError("hi \ud83d \0")
            case "untellable":
                raise Untellable
        return {"false": False, "true": True, "text": "yes"}.get(event.value)


class Untellable(Exception):
    def __str__(self) -> str:
        raise TypeError("no words")


class UntellablePlain:
    def handle(self, event: StringValue, state: object, meta: DeliveryMeta) -> None:
        raise Untellable


class Many:
    calls: list[list[Delivered]] = []  # noqa: RUF012

    def handle(self, event: StringValue, state: object, meta: DeliveryMeta) -> None: ...

    def handle_many(self, deliveries: list[Delivered]) -> bool:
        Many.calls.append(deliveries)
        return all(each.event.value != "bad" for each in deliveries)


class Everything:
    async def handle(self, event, state, meta) -> None:  # type: ignore[no-untyped-def]
        assert type(event) is StringValue


class TooFew:
    def handle(self, event: StringValue) -> None: ...


class ManyOnly:
    def handle_many(self, deliveries: list[Delivered]) -> None: ...


def target(class_: type) -> PythonEndpoint:
    return PythonEndpoint(f"{class_.__module__}:{class_.__name__}", setting="readside r: the handler")


def handler(class_: type, timeout: float = 5):  # type: ignore[no-untyped-def]
    return python_read_handler(target(class_), timedelta(seconds=timeout))


def envelope(text: str = "hello", event: object = None) -> EventEnvelope:
    packed = pack(event or StringValue(value=text)).SerializeToString()  # type: ignore[type-var]
    state = pack(Int64Value(value=7)).SerializeToString()
    return EventEnvelope(Packed(packed), Packed(state), Meta(EntityId("a"), Revision(3)), Revision(3))


async def deliver(class_: type, text: str = "hello", timeout: float = 5) -> None:
    await handler(class_, timeout).handle(READER, Shard(4), envelope(text))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests are imported under names of their own.
    monkeypatch.setitem(__import__("sys").modules, __name__, SimpleNamespace(**globals()))


async def test_a_plain_method_gets_its_own_messages_in_a_thread() -> None:
    Plain.seen.clear()
    await deliver(Plain)
    (seen,) = Plain.seen
    assert (seen.event.value, seen.state.value) == ("hello", 7)
    assert (seen.meta.entity_id, seen.meta.revision) == ("a", 3)
    assert (seen.meta.read_side, seen.meta.shard) == ("r", 4)


@pytest.mark.parametrize("text", ["none", "true"])
async def test_returning_nothing_or_true_confirms(text: str) -> None:
    await deliver(Scripted, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("false", "handle returned False"),
        ("text", "handle returned str; allowed: None, True or False"),
        ("raise", "handle raised ValueError: no such table"),
        ("exit", "handle raised SystemExit: 3"),
        ("odd", "handle raised ValueError: hi \ufffd \ufffd"),
        ("untellable", "handle raised Untellable: <Untellable: TypeError while it was written>"),
        ("sleep", "handle did not return within 0.1 s"),
    ],
)
async def test_anything_else_does_not_and_says_why(text: str, reason: str) -> None:
    with pytest.raises(DeliveryFailed) as failed:
        await deliver(Scripted, text, timeout=0.1)
    assert str(failed.value) == reason


async def test_an_error_that_cannot_be_written_costs_no_thread() -> None:
    one = handler(UntellablePlain)
    for _ in range(40):
        with pytest.raises(DeliveryFailed, match="handle raised Untellable"):
            await one.handle(READER, Shard(0), envelope())


async def test_an_event_the_annotation_does_not_allow_is_not_confirmed() -> None:
    with pytest.raises(DeliveryFailed, match=r"handle does not take .*google\.protobuf\.Empty"):
        await handler(Plain).handle(READER, Shard(0), envelope(event=Empty()))


async def test_without_annotations_any_loaded_type_will_do() -> None:
    await deliver(Everything)


async def test_many_events_come_in_one_call_in_order() -> None:
    Many.calls.clear()
    many = handler(Many)
    assert isinstance(many, BatchReadHandler)
    assert not isinstance(handler(Plain), BatchReadHandler)
    await many.handle_many(READER, [(Shard(number), envelope(str(number))) for number in range(5)])
    ((*deliveries,),) = Many.calls
    assert [(each.event.value, each.meta.shard) for each in deliveries] == [(str(n), n) for n in range(5)]
    with pytest.raises(DeliveryFailed, match="handle_many returned False"):
        await many.handle_many(READER, [(Shard(0), envelope("fine")), (Shard(0), envelope("bad"))])


async def test_one_that_cannot_be_loaded_fails_every_delivery_and_says_so() -> None:
    unloadable = python_read_handler(PythonEndpoint("no.such:Class", setting="x"), timedelta(seconds=1))
    assert isinstance(unloadable, UnloadableReadHandler)
    with pytest.raises(DeliveryFailed, match=r"cannot be loaded: x: no\.such:Class cannot be imported"):
        await unloadable.handle(READER, Shard(0), envelope())


@pytest.mark.parametrize(
    ("class_", "fault"),
    [
        (TooFew, "handle must take (event, state, meta)"),
        (ManyOnly, "has no method handle"),
    ],
)
def test_a_class_that_does_not_fit_is_told_in_a_line(class_: type, fault: str) -> None:
    with pytest.raises(Exception, match="readside r: the handler") as refused:
        load_reader(target(class_))
    assert fault in str(refused.value)


def test_the_samples_fit() -> None:
    for reference in ("python_read_handler:Balances", "postgres_read_handler:Statements"):
        assert fault_of(PythonEndpoint(f"cos_ray.samples.bank.{reference}", setting="x"), READ_SIDE) is None
    wrong = fault_of(
        PythonEndpoint("cos_ray.samples.bank.python_handler:BankAccounts", setting="x"), READ_SIDE
    )
    assert wrong == "x: cos_ray.samples.bank.python_handler:BankAccounts has no method handle"


class Blocking:
    """Returns when it may; notes when it begins and ends."""

    notes: list[str] = []  # noqa: RUF012
    may_return = threading.Event()

    def handle(self, event: StringValue, state: object, meta: DeliveryMeta) -> None:
        Blocking.notes.append(f"{event.value} begins")
        assert Blocking.may_return.wait(30)
        Blocking.notes.append(f"{event.value} ends")


@pytest.fixture
def notes() -> list[str]:
    Blocking.notes.clear()
    Blocking.may_return.clear()
    return Blocking.notes


async def cut_short(reader: Anything, notes: list[str]) -> None:
    """A delivery that has reached its function, and is cut short then."""
    delivery = asyncio.ensure_future(reader.handle(READER, Shard(0), envelope("first")))
    while not notes:
        await asyncio.sleep(0.001)
    delivery.cancel()
    await asyncio.wait({delivery})


async def test_what_is_cut_short_does_not_run_beside_what_comes_after(notes: list[str]) -> None:
    reader = handler(Blocking)
    await cut_short(reader, notes)
    again = asyncio.ensure_future(reader.handle(READER, Shard(0), envelope("second")))
    # Longer than another thread takes to step in.
    done, _ = await asyncio.wait({again}, timeout=0.1)
    assert not done
    assert notes == ["first begins"]
    Blocking.may_return.set()
    await again
    assert notes == ["first begins", "first ends", "second begins", "second ends"]


async def test_what_is_cut_short_and_does_not_return_in_its_time_holds_nothing_up_for_ever(
    notes: list[str],
) -> None:
    reader = handler(Blocking, timeout=0.2)
    await cut_short(reader, notes)
    again = asyncio.ensure_future(reader.handle(READER, Shard(0), envelope("second")))
    while "second begins" not in notes:
        await asyncio.sleep(0.001)
    Blocking.may_return.set()
    await again

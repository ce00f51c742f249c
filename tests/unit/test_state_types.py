"""A state of another type than the one before it: which are meant, and what becomes of the others."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.decisions import Decision, NoChange, Persist
from cos_ray.domain.erasure import ERASE, ERASED
from cos_ray.domain.errors import Code, Status
from cos_ray.domain.ids import CommandId, EntityId, Shard
from cos_ray.domain.messages import (
    EMPTY_STATE,
    NOTHING,
    Accepted,
    Command,
    EntityState,
    Headers,
    Meta,
    Packed,
    Refused,
    Reply,
)
from cos_ray.domain.type_changes import (
    Grounds,
    OnChange,
    PassedChange,
    TypeChange,
    TypePolicy,
    followed_through,
    refusal,
)
from cos_ray.domain.types import AcceptedTypes, EntityPolicy, change_between
from cos_ray.protocol.codec import pack
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.meters import ScriptOfMeters
from cos_ray.writeside import type_guard
from cos_ray.writeside.entity import Entity

CART, BASKET, TROLLEY = "shop.v1.Cart", "shop.v1.Basket", "shop.v1.Trolley"
RENAME = TypeChange(CART, BASKET)
serials = itertools.count()


def any_of(name: str, prefix: str = "type.googleapis.com/", value: bytes = b"\x08\x07") -> Packed:
    return pack(Any(type_url=prefix + name, value=value))


@dataclass
class Handler:
    """Each command leads to one event for each type that it names, and to a state of that type."""

    ahead: bool = False
    """Whether it says at once which states the events lead to."""
    prior: list[Packed] = field(default_factory=list)

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        names = command.decode().split()
        if not names:
            return NoChange()
        states = tuple(any_of(name) for name in names) if self.ahead else ()
        return Persist(tuple(any_of(f"Now.{name}") for name in names), states)

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        self.prior.append(prior_state)
        return any_of(Any.FromString(event).TypeName().removeprefix("Now."))


class House:
    """An entity that is woken anew for each command, as after a restart."""

    def __init__(self, policy: TypePolicy | None = None, ahead: bool = False) -> None:
        self.journal = MemoryJournal()
        self.meter = ScriptOfMeters()
        self.policy = EntityPolicy(type_policy=policy or TypePolicy())
        self.ahead = ahead

    async def process(self, *names: str, entity: str = "a") -> Reply:
        return await self.send(Packed(" ".join(names).encode()), entity)

    async def send(self, payload: Packed, entity: str = "a") -> Reply:
        id_ = EntityId(entity)
        woken = Entity(
            id_, Shard(0), Handler(self.ahead), self.journal, SystemClock(), self.policy, meter=self.meter
        )
        return await woken.process(Command(id_, payload, CommandId(f"c{next(serials)}"), 5.0))

    async def revision(self, entity: str = "a") -> int:
        newest = await self.journal.newest(EntityId(entity))
        return newest.meta.revision if newest else 0

    def passed(self) -> list[PassedChange | None]:
        return [envelope.passed_change for append in self.journal.appends for envelope in append.envelopes]


def refused(reply: Reply, old: str, new: str) -> None:
    text = (
        f"state type changed from {old} to {new}; declare it (COS_TYPE_RENAMES) or set COS_TYPE_CHANGES=allow"
    )
    assert reply == Refused(Status(Code.FAILED_PRECONDITION, text))


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    type_guard._tell_once.cache_clear()
    caplog.set_level(logging.WARNING)


class TestChangeBetween:
    def test_what_follows_the_last_slash_is_compared(self) -> None:
        assert change_between(any_of(CART), any_of(CART, value=b"\x08\x08")) is None
        assert change_between(any_of(CART), any_of(CART, "example.com/")) is None
        assert change_between(any_of(CART), any_of(CART, "")) is None
        assert change_between(any_of(CART), any_of(BASKET)) == RENAME
        assert change_between(any_of(CART, "a/b/"), any_of(BASKET, "c/")) == RENAME

    def test_a_name_that_begins_with_another_is_another(self) -> None:
        assert change_between(any_of(CART), any_of(CART + "s")) == TypeChange(CART, CART + "s")
        assert change_between(any_of(CART + "s"), any_of(CART)) == TypeChange(CART + "s", CART)

    @pytest.mark.parametrize("nothing", [EMPTY_STATE, NOTHING, any_of("google.protobuf.Empty", "x/")])
    def test_whatever_follows_an_empty_state_loses_nothing(self, nothing: Packed) -> None:
        assert change_between(nothing, any_of(CART)) is None

    def test_an_empty_state_after_another_loses_all(self) -> None:
        assert change_between(any_of(CART), EMPTY_STATE) == TypeChange(CART, "google.protobuf.Empty")

    @given(st.text(max_size=200), st.text(max_size=200), st.binary(max_size=9))
    def test_long_and_odd_names_are_compared_whole(self, old: str, new: str, value: bytes) -> None:
        change = change_between(pack(Any(type_url=f"a/{old}", value=b"1")), pack(Any(type_url=f"b/{new}")))
        old, new = old.rpartition("/")[2], new.rpartition("/")[2]
        assert change == (None if old in (new, "google.protobuf.Empty") else TypeChange(old, new))


class TestDeclared:
    def test_a_rename_has_a_direction(self) -> None:
        policy = TypePolicy(renames=followed_through([RENAME]))
        assert policy.grounds_for(RENAME) is Grounds.DECLARED
        assert policy.grounds_for(TypeChange(BASKET, CART)) is None

    def test_renames_are_followed_through_and_may_go_round(self) -> None:
        again = TypeChange(BASKET, TROLLEY)
        assert followed_through([RENAME, again]) == {RENAME, again, TypeChange(CART, TROLLEY)}
        back = TypeChange(TROLLEY, CART)
        assert len(followed_through([RENAME, again, back])) == 6

    def test_of_the_types_that_states_may_be_of_both_have_to_be_named(self) -> None:
        assert TypePolicy(states=frozenset({CART, BASKET})).grounds_for(RENAME) is Grounds.DECLARED
        assert TypePolicy(states=frozenset({BASKET})).grounds_for(RENAME) is None
        assert TypePolicy(states=frozenset({CART})).grounds_for(RENAME) is None

    def test_a_name_that_is_none_is_shown_and_never_remembered(self) -> None:
        change = TypeChange(CART, "")
        assert "from shop.v1.Cart to (no type);" in refusal(change).message
        assert not change.can_be_remembered
        assert len(refusal(TypeChange(CART, "x" * 100_000)).message) < 700


class TestEntity:
    @pytest.mark.parametrize("ahead", [False, True])
    async def test_an_undeclared_change_is_refused_and_nothing_is_stored(self, ahead: bool) -> None:
        house = House(ahead=ahead)
        await house.process(CART, CART)
        refused(await house.process(BASKET), CART, BASKET)
        assert await house.revision() == 2
        assert isinstance(await house.process(CART), Accepted)
        assert house.meter.of("refused type") == [0.0]

    @pytest.mark.parametrize("ahead", [False, True])
    async def test_also_in_the_midst_of_a_command(self, ahead: bool) -> None:
        house = House(ahead=ahead)
        refused(await house.process(CART, BASKET, CART), CART, BASKET)
        assert await house.revision() == 0

    async def test_an_unborn_entity_may_begin_with_any_type_and_one_that_is_empty_again_too(self) -> None:
        house = House(TypePolicy(renames=frozenset({TypeChange(CART, "google.protobuf.Empty")})))
        assert isinstance(await house.process(CART, "google.protobuf.Empty"), Accepted)
        assert isinstance(await house.process(BASKET), Accepted)
        assert isinstance(await house.process(TROLLEY, entity="b"), Accepted)

    async def test_a_command_without_events_is_answered_whatever_the_type(self) -> None:
        house = House()
        await house.process(CART)
        assert isinstance(await house.process(), Accepted)

    @pytest.mark.parametrize(
        ("policy", "grounds"),
        [
            (TypePolicy(renames=followed_through([RENAME])), Grounds.DECLARED),
            (TypePolicy(states=frozenset({CART, BASKET})), Grounds.DECLARED),
            (TypePolicy(OnChange.REFUSE, renames=frozenset({RENAME})), Grounds.DECLARED),
            (TypePolicy(OnChange.ALLOW), Grounds.ALLOWED),
            (TypePolicy(OnChange.WARN), Grounds.WARNED),
        ],
    )
    async def test_what_is_let_pass_is_stored_and_says_why(
        self, policy: TypePolicy, grounds: Grounds
    ) -> None:
        house = House(policy)
        assert isinstance(await house.process(CART, BASKET), Accepted)
        assert house.passed() == [None, PassedChange(RENAME, grounds)]
        assert house.meter.of("refused type") == []

    async def test_what_the_journal_holds_already_is_let_pass(self) -> None:
        house = House()
        house.policy = EntityPolicy(type_policy=TypePolicy(OnChange.ALLOW))
        await house.process(CART, BASKET, entity="other")
        house.policy = EntityPolicy()
        await house.process(CART)
        assert isinstance(await house.process(BASKET), Accepted)
        assert house.passed()[-1] == PassedChange(RENAME, Grounds.HELD)
        refused(await house.process(CART), BASKET, CART)

    async def test_on_a_journal_of_chief_of_state_it_is_a_warning_unless_told_otherwise(self) -> None:
        house = House()
        house.journal.is_taken_over = True
        assert isinstance(await house.process(CART, BASKET), Accepted)
        assert house.passed()[-1] == PassedChange(RENAME, Grounds.WARNED)
        house.policy = EntityPolicy(type_policy=TypePolicy(OnChange.REFUSE))
        refused(await house.process(TROLLEY), BASKET, TROLLEY)

    async def test_a_type_that_is_not_accepted_at_all_is_said_first(self) -> None:
        house = House()
        accepted = AcceptedTypes(frozenset({f"Now.{CART}", f"Now.{BASKET}"}), frozenset({CART}))
        house.policy = EntityPolicy(accepted)
        reply = await house.process(CART, BASKET)
        expected = f"invalid state: type.googleapis.com/{BASKET}"
        assert reply == Refused(Status(Code.INVALID_ARGUMENT, expected))

    async def test_while_the_journal_cannot_be_asked_the_command_is_not_run(self) -> None:
        house = House()
        await house.process(CART)

        async def precedent(change: TypeChange) -> object:
            house.journal.reachable = False
            return await MemoryJournal.precedent(house.journal, change)

        house.journal.precedent = precedent  # type: ignore[assignment, method-assign]
        reply = await house.process(BASKET)
        assert isinstance(reply, Refused)
        assert reply.status.code is Code.UNAVAILABLE

    async def test_a_rename_that_goes_on_and_on_is_told_of_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        house = House()
        await house.process(CART)
        for _ in range(5):
            refused(await house.process(BASKET), CART, BASKET)
        refused(await house.process(TROLLEY), CART, TROLLEY)
        assert _told(caplog.records) == [(CART, BASKET), (CART, TROLLEY)]
        assert len(house.meter.of("refused type")) == 6

    async def test_an_entity_is_erased_whatever_its_type_and_by_no_handler(self) -> None:
        house = House()
        await house.process(CART)
        assert isinstance(await house.send(ERASE), Accepted)
        await house.process(CART, entity="b")
        assert Any.FromString(ERASED).TypeName() == "cos_ray.v1.EntityErased"
        reply = await house.process("cos_ray.v1.EntityErased", entity="b")
        assert isinstance(reply, Refused)
        assert reply.status.message.endswith("cos_ray.v1.EntityErased is the service's own")


def _told(records: Sequence[logging.LogRecord]) -> list[tuple[object, object]]:
    return [
        (record.__dict__["old_type"], record.__dict__["new_type"])
        for record in records
        if "not declared" in record.getMessage()
    ]

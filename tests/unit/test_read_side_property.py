"""
Whatever happens to a read side, nothing is skipped and nothing handed over out of order.

Histories, failures and the moments of stopping are made up by hypothesis, which prints the
smallest story it finds that breaks the promise, seed included, and can be given it back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from cos_ray.domain.errors import DeliveryFailed, JournalUnavailable, ReadSideUnavailable
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, ReleaseId, Revision, Shard
from cos_ray.domain.messages import JournaledEvent, RowIdentity
from cos_ray.domain.pages import Page
from cos_ray.domain.read_sides import Refresh, Replay, ReplayEntities, Span
from cos_ray.ports import NOTHING_KNOWN
from cos_ray.readside.read_side import ReadSide
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.testing.dead_letters import MemoryDeadLetters
from cos_ray.testing.offsets import MemoryReadSides
from cos_ray.testing.read_handlers import (
    Attempt,
    Outcome,
    RecordingBatchHandler,
    RecordingReadHandler,
    faults_in,
)
from cos_ray.testing.read_sides import MemoryEventSource, SteppedClock

READ_SIDE = ReadSideId("r")
SHARDS = 3
QUICK = Backoff(timedelta(milliseconds=100), timedelta(milliseconds=400))


@dataclass(frozen=True)
class Story:
    """What happens, but for what chance decides by the seed."""

    seed: int
    appends: list[list[int]]
    """Before each life and at its start: which entities get an event."""
    lives: list[float]
    """How long each run of the read side lasts, in seconds; then one runs to the end."""
    is_killed: list[bool]
    """Whether the run is cut off, rather than stopped."""
    failing: float
    """How likely a delivery, a read or a save fails."""
    slow: float
    """How long a delivery, a read or a save may take, in seconds."""
    batch: int
    spare: int
    """How many events are held beyond a batch: more than there are entities that fail for good."""
    concurrency: int
    batch_handler: int
    """How many events the handler takes in one call; 0: one, in the other kind of call."""
    poison: dict[int, int]
    """In each life: an entity of which one event fails until nothing does any more, and which event."""
    orders: list[tuple[str, int]]
    """What an operator does in the course of each life, and to which shard."""


stories = st.builds(
    Story,
    seed=st.integers(0, 2**32),
    appends=st.lists(st.lists(st.integers(0, 8), max_size=100), min_size=1, max_size=6),
    lives=st.lists(st.floats(0, 3), min_size=4, max_size=4),
    is_killed=st.lists(st.booleans(), min_size=4, max_size=4),
    failing=st.sampled_from([0.0, 0.1, 0.5]),
    slow=st.sampled_from([0.0, 0.05, 0.7]),
    batch=st.integers(1, 6),
    spare=st.integers(4, 9),
    concurrency=st.integers(1, 8),
    batch_handler=st.sampled_from([0, 0, 2, 7]),
    poison=st.dictionaries(st.integers(0, 8), st.integers(1, 6), max_size=4),
    orders=st.lists(
        st.tuples(st.sampled_from(["pause", "resume", "restart", "repeat"]), st.integers(0, SHARDS - 1)),
        max_size=8,
    ),
)


@dataclass
class World:
    """The surroundings of a read side, where chance strikes."""

    story: Story
    clock: SteppedClock = field(default_factory=SteppedClock)
    is_calm: bool = False
    """Nothing happens by chance any more."""
    is_healed: bool = False
    """Nothing fails for good any more."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.story.seed)
        self.source = ShakySource(self)
        self.offsets = ShakyOffsets(self)
        batch = self.story.batch_handler
        self.handler: RecordingReadHandler = (
            RecordingBatchHandler(batch, self.before_delivery)
            if batch
            else RecordingReadHandler(self.before_delivery)
        )
        self.offsets.went_back = self.handler.begin_life
        self.letters = MemoryDeadLetters(self.offsets.owner)

    async def before_delivery(self, attempt: Attempt) -> None:
        number = self.story.poison.get(int(attempt.entity_id.removeprefix("e")))
        if attempt.revision == number and not self.is_healed:
            raise DeliveryFailed("poison")
        await self.strike(DeliveryFailed("by chance"))

    async def strike(self, error: Exception) -> None:
        """Take some time, and fail now and then, before or after the time is gone."""
        fails = not self.is_calm and self.chance.random() < self.story.failing
        if fails and self.chance.random() < 0.5:
            raise error
        if self.story.slow and self.chance.random() < 0.7:
            await self.clock.sleep(self.chance.random() * self.story.slow)
        if fails:
            raise error

    def append(self, entities: Sequence[int]) -> None:
        for entity in entities:
            self.source.add(entity % SHARDS, f"e{entity}")

    def others_are_confirmed(self) -> bool:
        """Whether all events are that no event which fails for good holds up."""
        poisoned = {f"e{entity}" for entity in self.story.poison}
        histories = {whose: n for whose, n in self.source.histories.items() if whose not in poisoned}
        attempts = [attempt for attempt in self.handler.attempts if attempt.entity_id not in poisoned]
        return not faults_in(attempts, histories)

    def check_offsets(self) -> None:
        """No saved offset is past an event that was never confirmed."""
        confirmed = {
            (attempt.entity_id, attempt.revision)
            for attempt in self.handler.attempts
            if attempt.outcome is Outcome.CONFIRMED
        }
        for shard, offset in self.offsets.offsets[READ_SIDE].items():
            for event in self.source.events(shard):
                key = (event.envelope.meta.entity_id, event.envelope.sequence_number)
                assert event.offset > offset or key in confirmed, f"{key} in {shard} is behind {offset}"


class ShakySource(MemoryEventSource):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    async def after(
        self, shard: Shard, offset: Offset, limit: int, known: RowIdentity | None = None
    ) -> Page[JournaledEvent]:
        events = await super().after(shard, offset, limit, known)
        await self.world.strike(JournalUnavailable("by chance"))
        return events

    async def events_of(self, entity_id: EntityId, first: Revision, limit: int) -> Page[JournaledEvent]:
        events = await super().events_of(entity_id, first, limit)
        await self.world.strike(JournalUnavailable("by chance"))
        return events

    async def span_of(self, entity_id: EntityId, up_to: Offset) -> Span | None:
        # What comes again within one life is a fault, unless it was asked for.
        self.world.handler.begin_life()
        return await super().span_of(entity_id, up_to)


class ShakyOffsets(MemoryReadSides):
    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self.world = world

    async def pause(self, read_side: ReadSideId, shards: Collection[Shard], paused: bool) -> None:
        await self.world.strike(JournalUnavailable("by chance"))
        await super().pause(read_side, shards, paused)

    async def keep(self, read_side: ReadSideId, owner: Owner, lasts: timedelta) -> Mapping[Shard, bool]:
        await self.world.strike(JournalUnavailable("by chance"))
        return await super().keep(read_side, owner, lasts)

    async def load(self, read_side: ReadSideId) -> Mapping[Shard, Offset | None]:
        await self.world.strike(JournalUnavailable("by chance"))
        return await super().load(read_side)

    async def save(
        self,
        read_side: ReadSideId,
        offsets: Mapping[Shard, Offset],
        owner: Owner,
        known: Mapping[Shard, RowIdentity] = NOTHING_KNOWN,
    ) -> Collection[Shard]:
        refused = await super().save(read_side, offsets, owner, known)
        self.world.check_offsets()
        # Failing after the fact is the harder case: saved, and nobody told.
        await self.world.strike(JournalUnavailable("by chance"))
        return refused


async def tell(story: Story) -> None:
    world = World(story)
    lives = [*zip(story.lives, story.is_killed, strict=True), (None, False)]
    appends = iter(story.appends)
    for length, is_killed in lives:
        world.append(next(appends, ()))
        await live(world, length, is_killed, next(appends, ()))
        world.check_offsets()
        world.handler.begin_life()
    assert faults_in(world.handler.attempts, world.source.histories) == []


async def operate(world: World, read_side: ReadSide, orders: Sequence[tuple[str, int]]) -> None:
    """What an operator does meanwhile; it does not always work."""
    for what, number in orders:
        await world.clock.sleep(world.chance.random() * 0.5)
        shard = Shard(number)
        with suppress(JournalUnavailable, ReadSideUnavailable):
            match what:
                case "pause" | "resume":
                    await world.offsets.pause(READ_SIDE, [shard], what == "pause")
                    await read_side.obey(Refresh(frozenset([shard] if what == "resume" else [])))
                case "restart":
                    await read_side.obey(Replay({shard: Offset(0)}))
                case "repeat":
                    entity = EntityId(f"e{number}")
                    await read_side.obey(ReplayEntities({shard: (entity,)}))


async def live(world: World, length: float | None, is_killed: bool, appended: Sequence[int]) -> None:
    """One run of the read side; to the end of all events where no length is given."""
    story = world.story
    measures = ReadSideSettings(
        READ_SIDE,
        concurrency=story.concurrency,
        batch=story.batch,
        look_ahead=story.batch + story.spare,
        save_every=5,
        drain=timedelta(milliseconds=300),
        policy=DeliveryPolicy(waits=QUICK),
        journal_retry=QUICK,
    )
    shards = [Shard(shard) for shard in range(SHARDS)]
    stores = Stores(world.source, world.source, world.offsets, world.offsets, world.letters)
    owner = Owner(f"life-{world.chance.random()}")
    read_side = ReadSide(measures, shards, shards, owner, ReleaseId("r"), stores, world.handler, world.clock)
    run = asyncio.ensure_future(read_side.run())
    await world.clock.advance(world.chance.random() * 0.3)
    world.append(appended)
    read_side.notify(shards)
    operator = asyncio.ensure_future(operate(world, read_side, story.orders))
    if length is None:
        world.is_calm = True
        await world.clock.until(operator.done)
        world.offsets.paused_shards[READ_SIDE].clear()
        await world.clock.until(world.others_are_confirmed)
        world.is_healed = True
        await world.clock.until(lambda: not faults_in(world.handler.attempts, world.source.histories))
    else:
        await world.clock.advance(length)
    operator.cancel()
    if is_killed:
        run.cancel()
        await asyncio.wait({run})
    else:
        stop = asyncio.ensure_future(read_side.stop())
        await world.clock.until(stop.done)
        await run


@settings(
    max_examples=150,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(story=stories)
def test_first_deliveries_are_exactly_the_history_of_each_entity(story):
    note(f"seed={story.seed}")
    asyncio.run(tell(story))

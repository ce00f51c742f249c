"""
Whatever happens to a read side, nothing is skipped and nothing handed over out of order.

Histories, failures and the moments of stopping are made up by hypothesis, which prints the
smallest story it finds that breaks the promise, seed included, and can be given it back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from cos_ray.domain.errors import DeliveryFailed, JournalUnavailable
from cos_ray.domain.failure_policy import Backoff
from cos_ray.domain.ids import Offset, ReadSideId, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.readside.read_side import ReadSide
from cos_ray.readside.settings import ReadSideSettings
from cos_ray.testing.read_handlers import Attempt, Outcome, RecordingReadHandler, faults_in
from cos_ray.testing.read_sides import MemoryEventSource, MemoryOffsetStore, SteppedClock

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
    look_ahead: int
    concurrency: int


stories = st.builds(
    Story,
    seed=st.integers(0, 2**32),
    appends=st.lists(st.lists(st.integers(0, 8), max_size=25), min_size=1, max_size=6),
    lives=st.lists(st.floats(0, 3), min_size=4, max_size=4),
    is_killed=st.lists(st.booleans(), min_size=4, max_size=4),
    failing=st.sampled_from([0.0, 0.1, 0.5]),
    slow=st.sampled_from([0.0, 0.05, 0.7]),
    batch=st.integers(1, 6),
    look_ahead=st.integers(6, 20),
    concurrency=st.integers(1, 8),
)


@dataclass
class World:
    """The surroundings of a read side, where chance strikes."""

    story: Story
    clock: SteppedClock = field(default_factory=SteppedClock)
    is_calm: bool = False

    def __post_init__(self) -> None:
        self.chance = random.Random(self.story.seed)
        self.source = ShakySource(self)
        self.offsets = ShakyOffsets(self)
        self.handler = RecordingReadHandler(before=self.before_delivery)

    async def before_delivery(self, attempt: Attempt) -> None:
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

    async def after(self, shard: Shard, offset: Offset, limit: int) -> Sequence[JournaledEvent]:
        events = await super().after(shard, offset, limit)
        await self.world.strike(JournalUnavailable("by chance"))
        return events


class ShakyOffsets(MemoryOffsetStore):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    async def load(self, read_side: ReadSideId) -> Mapping[Shard, Offset]:
        await self.world.strike(JournalUnavailable("by chance"))
        return await super().load(read_side)

    async def save(self, read_side: ReadSideId, offsets: Mapping[Shard, Offset]) -> None:
        await super().save(read_side, offsets)
        self.world.check_offsets()
        # Failing after the fact is the harder case: saved, and nobody told.
        await self.world.strike(JournalUnavailable("by chance"))


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


async def live(world: World, length: float | None, is_killed: bool, appended: Sequence[int]) -> None:
    """One run of the read side; to the end of all events where no length is given."""
    story = world.story
    measures = ReadSideSettings(
        READ_SIDE,
        concurrency=story.concurrency,
        batch=story.batch,
        look_ahead=story.look_ahead,
        save_every=5,
        drain=timedelta(milliseconds=300),
        delivery_retry=QUICK,
        journal_retry=QUICK,
    )
    shards = [Shard(shard) for shard in range(SHARDS)]
    read_side = ReadSide(measures, shards, world.source, world.offsets, world.handler, world.clock)
    run = asyncio.ensure_future(read_side.run())
    await world.clock.advance(world.chance.random() * 0.3)
    world.append(appended)
    read_side.poke(shards)
    if length is None:
        world.is_calm = True
        await world.clock.until(lambda: not faults_in(world.handler.attempts, world.source.histories))
    else:
        await world.clock.advance(length)
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

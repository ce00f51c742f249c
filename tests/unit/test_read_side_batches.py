"""A handler that takes many events in one call."""

from __future__ import annotations

import pytest

from cos_ray.domain.failure_policy import DeliveryPolicy, LastResort
from cos_ray.testing.read_handlers import RecordingBatchHandler
from tests.support.read_side import World


@pytest.fixture
def world() -> World:
    world = World()
    world.handler = RecordingBatchHandler(50)
    return world


async def test_what_is_due_comes_in_few_calls_entities_in_order(world):
    for entity in range(10):
        world.source.add(entity % 2, f"e{entity}", 30)
    async with world.running(concurrency=1):
        await world.clock.until(world.all_confirmed)
    assert sum(world.handler.calls) == 300
    assert max(world.handler.calls) == 50
    assert len(world.handler.calls) <= 8


async def test_one_busy_entity_fills_a_call_alone(world):
    world.source.add(0, "a", 120)
    async with world.running(concurrency=1):
        await world.clock.until(world.all_confirmed)
    assert world.handler.calls == [50, 50, 20]


async def test_when_a_call_fails_its_events_come_one_by_one_and_only_the_bad_one_is_retried(world):
    world.handler.fail("e3", 2)
    for entity in range(5):
        world.source.add(0, f"e{entity}", 3)
    async with world.running(policy=DeliveryPolicy(1, last_resort=LastResort.SKIP)):
        await world.clock.until(lambda: world.shard(0).skipped == 1)
        await world.clock.until(lambda: world.handler.confirmed("e3") == [1, 3])
        for entity in (0, 1, 2, 4):
            assert world.handler.confirmed(f"e{entity}") == [1, 2, 3]
        assert world.shard(0).last_error.entity_id == "e3"
        await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)

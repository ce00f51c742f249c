"""How state goes on from event to event."""

from __future__ import annotations

from datetime import datetime, timezone

from cos_ray.domain.evolution import next_meta, next_sequence_number, state_after, unborn
from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.messages import EMPTY_STATE, EntityState, EventEnvelope, Header, Meta, Packed

ID = EntityId("e")
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
HEADERS = (Header("a", "1"),)


def test_an_entity_without_events_is_at_revision_0_and_does_not_exist() -> None:
    state = unborn(ID)
    assert state == EntityState(EMPTY_STATE, Meta(ID, Revision(0), None, (), ()), Revision(0))
    assert not state.exists


def test_the_first_event_makes_revision_1() -> None:
    prior = unborn(ID)
    assert next_meta(prior, NOW, HEADERS) == Meta(ID, Revision(1), NOW, HEADERS)
    assert next_sequence_number(prior) == 1


def test_revisions_and_sequence_numbers_go_on_each_from_its_own() -> None:
    prior = EntityState(Packed(b"s"), Meta(ID, Revision(4), NOW), Revision(7))
    assert next_meta(prior, NOW, ()).revision == 5
    assert next_sequence_number(prior) == 8


def test_headers_and_data_of_the_prior_event_are_not_inherited() -> None:
    prior = EntityState(
        Packed(b"s"), Meta(ID, Revision(4), NOW, HEADERS, (("k", Packed(b"v")),)), Revision(4)
    )
    meta = next_meta(prior, NOW, ())
    assert (meta.headers, meta.data) == ((), ())


def test_the_state_after_an_event_is_the_one_it_carries() -> None:
    meta = Meta(ID, Revision(4), NOW, HEADERS)
    envelope = EventEnvelope(Packed(b"e"), Packed(b"s"), meta, Revision(7))
    state = state_after(envelope)
    assert state == EntityState(Packed(b"s"), meta, Revision(7))
    assert state.exists

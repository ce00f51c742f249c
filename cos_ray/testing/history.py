"""
Judges a journal by what its writers were told: those who append, and those who send commands.

Every test of losses stands on these checks, so they have tests of their own, with planted faults.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import Append, EventEnvelope, JournaledEvent, Packed


def faults_of_history(
    history: Sequence[JournaledEvent],
    acknowledged: Iterable[tuple[Append, Offset]],
    denied: Iterable[Append] = (),
) -> list[str]:
    """
    What is wrong with a history, in words; nothing when all is well.

    `history`: every event of the journal; `acknowledged`: appends that succeeded, with the offset
    they got; `denied`: appends that were said not to be stored. For the check to see everything, no
    two appends may hold an equal event of the same entity.
    """
    return [
        *_faults_of_order(history),
        *_faults_of_acknowledged(history, acknowledged),
        *_faults_of_denied(history, denied),
    ]


def _faults_of_order(history: Sequence[JournaledEvent]) -> Iterable[str]:
    entities: dict[EntityId, list[JournaledEvent]] = defaultdict(list)
    for journaled in sorted(history, key=lambda journaled: journaled.offset):
        entities[journaled.envelope.meta.entity_id].append(journaled)
    for entity_id, events in entities.items():
        numbers = [journaled.envelope.sequence_number for journaled in events]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{entity_id}: its events are numbered {numbers}, in the order of their offsets"
        bodies = [journaled.envelope.event for journaled in events]
        if len(set(bodies)) != len(bodies):
            yield f"{entity_id}: an event is there more than once"
    if len({journaled.offset for journaled in history}) != len(history):
        yield "an offset is there more than once"


def _faults_of_acknowledged(
    history: Sequence[JournaledEvent], acknowledged: Iterable[tuple[Append, Offset]]
) -> Iterable[str]:
    lies_at = {_key(journaled.envelope): journaled for journaled in history}
    for append, offset in acknowledged:
        found = [lies_at.get(_key(envelope)) for envelope in append.envelopes]
        stored = [journaled.envelope for journaled in found if journaled is not None]
        if stored != list(append.envelopes):
            yield f"{append.entity_id}: acknowledged after {append.expected}, and not there as it was sent"
        elif found[-1] is not None and found[-1].offset != offset:
            yield f"{append.entity_id}: acknowledged at {offset}, and lies at {found[-1].offset}"


def _faults_of_denied(history: Sequence[JournaledEvent], denied: Iterable[Append]) -> Iterable[str]:
    present = {(journaled.envelope.meta.entity_id, journaled.envelope.event) for journaled in history}
    for append in denied:
        if any((append.entity_id, envelope.event) in present for envelope in append.envelopes):
            yield f"{append.entity_id}: an append after {append.expected} is there though it was denied"


class Ending(Enum):
    """How a call ended, as its client knows."""

    DONE = "done"
    """Acknowledged: what it led to is stored."""
    DENIED = "denied"
    """Refused, with a code that says that nothing was stored."""
    UNKNOWN = "unknown"
    """Nobody said whether anything was stored."""


_NONE = Revision(0)


@dataclass(frozen=True, slots=True)
class Call:
    """A command, or a question if it has no events, as its client saw it."""

    entity_id: EntityId
    events: tuple[Packed, ...]
    """What it leads to; no other call to the same entity leads to one of them."""
    began: float
    ended: float
    """By one clock for all calls."""
    ending: Ending
    revision: Revision = _NONE
    """What the reply said, if DONE."""
    state: Packed | None = None
    """Likewise; None if it was not looked at."""


def faults_of_calls(history: Sequence[JournaledEvent], calls: Sequence[Call]) -> list[str]:
    """
    What is wrong with a history for those who made it, in words; nothing when all is well.

    Every event belongs to one call, whose events stand together; what was acknowledged is there as
    it was said, what was denied is not; and a call that began when another had ended comes after
    that one (it is linearizable). An unknown call's events may be there, once, or not.
    """
    return [*_faults_of_order(history), *_faults_of_endings(history, calls), *_faults_of_time(history, calls)]


def _faults_of_endings(history: Sequence[JournaledEvent], calls: Sequence[Call]) -> Iterable[str]:
    places = _places(history)
    states = {_key(journaled.envelope): journaled.envelope.resulting_state for journaled in history}
    explained: set[tuple[EntityId, Packed]] = set()
    for call in calls:
        explained |= {(call.entity_id, event) for event in call.events}
        stored = _stored(call, places)
        told = f"{call.entity_id}: what was {call.ending.value} at revision {call.revision}"
        if stored and stored != list(range(stored[0], stored[0] + len(call.events))):
            yield f"{told} is there in part or scattered, as {stored}"
        if call.ending is Ending.DENIED and stored:
            yield f"{told} is there, as {stored}"
        if call.ending is not Ending.DONE:
            continue
        if call.events and (not stored or stored[-1] != call.revision):
            yield f"{told} lies at {stored}"
        if call.state is not None and call.revision and states.get(_place(call)) != call.state:
            yield f"{told} is another state in the journal"
    for entity_id, event in places.keys() - explained:
        yield f"{entity_id}: nobody asked for the event at {places[entity_id, event]}"


def _faults_of_time(history: Sequence[JournaledEvent], calls: Sequence[Call]) -> Iterable[str]:
    places = _places(history)
    by_entity: dict[EntityId, list[Call]] = defaultdict(list)
    for call in calls:
        by_entity[call.entity_id].append(call)
    for entity_id, of_entity in by_entity.items():
        ended = sorted(
            (call for call in of_entity if call.ending is Ending.DONE), key=lambda call: call.ended
        )
        next_to_end, known = 0, 0
        for call in sorted(of_entity, key=lambda call: call.began):
            while next_to_end < len(ended) and ended[next_to_end].ended < call.began:
                known = max(known, ended[next_to_end].revision)
                next_to_end += 1
            stored = _stored(call, places)
            if call.ending is Ending.DONE and call.revision < known:
                yield f"{entity_id}: revision {call.revision} was answered when {known} was known"
            elif stored and stored[0] <= known:
                yield f"{entity_id}: revision {stored[0]} was asked for when {known} was known"


def _places(history: Sequence[JournaledEvent]) -> dict[tuple[EntityId, Packed], int]:
    return {
        (journaled.envelope.meta.entity_id, journaled.envelope.event): journaled.envelope.sequence_number
        for journaled in history
    }


def _stored(call: Call, places: Mapping[tuple[EntityId, Packed], int]) -> list[int]:
    """The revisions of those of the call's events that are there."""
    found = [places.get((call.entity_id, event)) for event in call.events]
    return [place for place in found if place is not None]


def _place(call: Call) -> tuple[EntityId, int]:
    return call.entity_id, call.revision


def _key(envelope: EventEnvelope) -> tuple[EntityId, int]:
    return envelope.meta.entity_id, envelope.sequence_number

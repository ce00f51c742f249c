"""Judges a journal by what its writers were told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from cos_ray.domain.ids import EntityId, Offset
from cos_ray.domain.messages import Append, EventEnvelope, JournaledEvent


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


def _key(envelope: EventEnvelope) -> tuple[EntityId, int]:
    return envelope.meta.entity_id, envelope.sequence_number

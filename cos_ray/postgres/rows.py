"""Appends in the form in which they travel to the journal, and what the journal cannot take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from cos_ray.domain.errors import EventRefused
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Revision, Shard, fault_of_entity_id
from cos_ray.domain.messages import Append
from cos_ray.protocol.codec import envelope_to_bytes

LARGEST_APPEND = 256 * 1024 * 1024
"""Bytes of all events and states of one command. Postgres itself ends at 1 GB per message."""

LARGEST_EVENT = LARGEST_APPEND
"""Bytes of one event, the state it leads to and its metadata, where nobody says what can be delivered."""

_OVERHEAD = 128
"""Bytes an event costs beside its payload, about."""

_NO_EVENTS = (b"",)
"""What stands for the events of an append that has none, and is there for its key."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedAppend:
    """All events of one command, as bytes."""

    entity_id: EntityId
    shard: Shard
    command_id: CommandId
    expected: Revision
    payloads: tuple[bytes, ...]
    octets: int
    """About how much it weighs on the way."""
    key: IdempotencyKey | None = None


def encode(
    append: Append, largest: int = LARGEST_APPEND, largest_event: int = LARGEST_EVENT
) -> EncodedAppend:
    """
    Turn events into bytes. Raises EventRefused for what no journal could ever take.

    That is also an event that could not be delivered: handlers and clients get it with its state.
    """
    if fault := fault_of_entity_id(append.entity_id):
        raise EventRefused(fault)
    if not (append.envelopes or append.key):
        raise EventRefused("an append without events")
    numbers = [envelope.sequence_number for envelope in append.envelopes]
    if numbers != list(range(append.expected + 1, append.expected + 1 + len(numbers))):
        raise EventRefused(f"events numbered {numbers} cannot follow {append.expected}")
    try:
        payloads = tuple(map(envelope_to_bytes, append.envelopes))
    except DecodeError as error:
        raise EventRefused(f"an event or state is no google.protobuf.Any: {error}") from error
    for number, payload in zip(numbers, payloads, strict=True):
        if len(payload) > largest_event:
            raise EventRefused(
                f"event {number} has {len(payload)} bytes with the state it leads to, {largest_event} can be"
                " delivered; COS_HANDLER_MAX_MESSAGE_BYTES allows more"
            )
    octets = sum(map(len, payloads))
    if octets > largest:
        raise EventRefused(f"the events and states of one command have {octets} bytes, {largest} are allowed")
    octets += _OVERHEAD * max(1, len(payloads))
    return EncodedAppend(
        append.entity_id, append.shard, append.command_id, append.expected, payloads, octets, append.key
    )


def columns(batch: Sequence[EncodedAppend]) -> list[list[object]]:
    """The batch as the parameters of `append.sql`: one array each, one element per event."""
    numbers: list[object] = []
    shards: list[object] = []
    entity_ids: list[object] = []
    expecteds: list[object] = []
    sequence_numbers: list[object] = []
    writers: list[object] = []
    payloads: list[object] = []
    for number, append in enumerate(batch):
        first = append.expected + 1 if append.payloads else append.expected
        for sequence_number, payload in enumerate(append.payloads or _NO_EVENTS, start=first):
            numbers.append(number)
            shards.append(append.shard)
            entity_ids.append(append.entity_id)
            expecteds.append(append.expected)
            sequence_numbers.append(sequence_number)
            writers.append(append.command_id)
            payloads.append(payload)
    return [numbers, shards, entity_ids, expecteds, sequence_numbers, writers, payloads]


def key_column(batch: Sequence[EncodedAppend]) -> list[IdempotencyKey | None]:
    """One more array, for `append_with_keys.sql`: the key at the last event of each append."""
    keys: list[IdempotencyKey | None] = []
    for append in batch:
        keys += [None] * (len(append.payloads) - 1)
        keys.append(append.key)
    return keys

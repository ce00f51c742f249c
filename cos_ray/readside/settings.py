"""How one read side works: how much at once, how often, how patiently."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy
from cos_ray.domain.ids import ReadSideId
from cos_ray.domain.shard_leases import Lease
from cos_ray.ports import DeadLetters, EventSource, OffsetStore, Positions, ReadSideControls


@dataclass(frozen=True, slots=True)
class Stores:
    """The journal to read, and all that is remembered of read sides."""

    source: EventSource
    positions: Positions
    offsets: OffsetStore
    controls: ReadSideControls
    letters: DeadLetters


_LEASE = Lease()
_PATIENT = Backoff()
_FOR_EVER = DeliveryPolicy()
_PROMPT = Backoff(first=timedelta(milliseconds=250), longest=timedelta(seconds=5))


@dataclass(frozen=True, slots=True)
class ReadSideSettings:
    """The measures of a read side; the defaults suit most."""

    read_side: ReadSideId
    auto_start: bool = True
    """Whether it runs, rather than waits to be resumed, when it is seen for the first time."""
    policy: DeliveryPolicy = _FOR_EVER
    """What follows when an event is not confirmed."""
    concurrency: int = 256
    """How many deliveries may be under way at once, over all shards; fewer while they time out."""
    batch: int = 200
    """How many events one read of one shard asks for."""
    look_ahead: int = 1000
    """How many events of one shard may be held until they are delivered; at least one batch."""
    look_ahead_octets: int = 64 * 1024 * 1024
    """How many bytes they may take in all shards; a shard's share of that it may take in any case."""
    concurrent_octets: int = 32 * 1024 * 1024
    """How many bytes may be under way in deliveries at once; one event may, however large."""
    batch_octets: int = 8 * 1024 * 1024
    """How many bytes are handed in one call to a handler that takes many events; one event, however large."""
    reads_at_once: int = 4
    """How many shards may be read at the same time."""
    poll: timedelta = timedelta(milliseconds=250)
    """How often all shards are asked whether there is anything new, when there is now and then."""
    idle_poll: timedelta = timedelta(seconds=1)
    """How long that time grows while there is nothing."""
    save_every: int = 500
    """Offsets are saved after they moved so often ..."""
    save_after: timedelta = timedelta(milliseconds=100)
    """... or so long after the first move that is not saved."""
    drain: timedelta = timedelta(seconds=10)
    """How long stopping waits for deliveries under way, and then for offsets being saved."""
    settle: timedelta = timedelta(seconds=2)
    """How long an operator's order waits for deliveries under way, before it cuts them short."""
    journal_retry: Backoff = _PROMPT
    """The waits between tries to reach the journal."""
    gap_retry: Backoff = _PATIENT
    """The waits between reads of a shard that shows a gap."""
    entities_remembered: int = 10_000
    """Of how many entities per shard the newest sequence number is remembered, to notice gaps."""
    lease: Lease = _LEASE
    """How long the claims to the shards hold."""
    ask_every: timedelta = timedelta(milliseconds=500)
    """How often a shard of one's own is asked for that another process has."""
    hand_over: timedelta = timedelta(seconds=30)
    """How long handing a shard over waits for deliveries under way: as long as one may take."""

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= self.look_ahead:
            raise ValueError(f"batch must be from 1 to look_ahead ({self.look_ahead}): {self.batch}")
        if self.concurrency < 1 or self.reads_at_once < 1:
            raise ValueError("concurrency and reads_at_once must be at least 1")

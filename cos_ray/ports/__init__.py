"""
What the flows ask of the world, and nothing about how it is done.

Each Protocol is implemented by a door (postgres, handlers, cluster) and by a fake in
`cos_ray.testing`, held to one contract suite.
"""

from __future__ import annotations

from cos_ray.ports.journal import (
    NOTHING_KNOWN,
    EntityPast,
    Eraser,
    EventSource,
    History,
    Journal,
    JournalTail,
)
from cos_ray.ports.meters import (
    CommandMeter,
    EntityMeter,
    JournalMeter,
    ProgressMeter,
    ReadSideMeter,
    SubscriptionMeter,
    Unmeasured,
    UnmeasuredJournal,
    UnmeasuredReadSide,
)
from cos_ray.ports.read_sides import (
    BatchReadHandler,
    DeadLetters,
    OffsetStore,
    Positions,
    Publisher,
    ReadHandler,
    ReadSideControls,
    ReadSideProcesses,
)
from cos_ray.ports.write_side import (
    Clock,
    Entities,
    EntityGateway,
    Neighbours,
    Operations,
    ShardHosts,
    WriteHandler,
)

__all__ = [
    "NOTHING_KNOWN",
    "BatchReadHandler",
    "Clock",
    "CommandMeter",
    "DeadLetters",
    "Entities",
    "EntityGateway",
    "EntityMeter",
    "EntityPast",
    "Eraser",
    "EventSource",
    "History",
    "Journal",
    "JournalMeter",
    "JournalTail",
    "Neighbours",
    "OffsetStore",
    "Operations",
    "Positions",
    "ProgressMeter",
    "Publisher",
    "ReadHandler",
    "ReadSideControls",
    "ReadSideMeter",
    "ReadSideProcesses",
    "ShardHosts",
    "SubscriptionMeter",
    "Unmeasured",
    "UnmeasuredJournal",
    "UnmeasuredReadSide",
    "WriteHandler",
]

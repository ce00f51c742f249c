"""What an entity's process must know; light to import and to pickle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cos_ray.cluster.journal_actor import JournalRecipe
from cos_ray.handlers.channels import GrpcTarget
from cos_ray.telemetry.logs import LogSettings


@dataclass(frozen=True, slots=True)
class EntityWiring:
    """How an entity reaches its handler and its journal."""

    namespace: str
    shards: int
    write_handler: GrpcTarget
    call_timeout: timedelta
    logs: LogSettings
    journal: JournalRecipe
    """Starts the node's journal actor, should there be none."""

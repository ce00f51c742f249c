"""What an entity's process must know; light to import and to pickle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cos_ray.cluster.journal_actor import JournalSpec
from cos_ray.domain.circuit_breaker import BreakerPolicy
from cos_ray.domain.passivation import ProcessLimits
from cos_ray.domain.types import EntityPolicy
from cos_ray.handlers.endpoints import WriteTarget
from cos_ray.system.certificates import TlsFiles
from cos_ray.telemetry.logs import LogSettings
from cos_ray.telemetry.traces import TraceSettings

_AS_MEMORY_ALLOWS = ProcessLimits()


@dataclass(frozen=True, slots=True)
class EntitySpec:
    """How an entity reaches its handler and its journal."""

    namespace: str
    shards: int
    write_handler: WriteTarget
    call_timeout: timedelta
    breaker: BreakerPolicy | None
    """When to leave the write handler alone; None: never."""
    logs: LogSettings
    journal: JournalSpec
    """Starts the node's journal actor, should there be none."""
    policy: EntityPolicy
    limits: ProcessLimits = _AS_MEMORY_ALLOWS
    """How many entities may have a process, and for how long."""
    traces: TraceSettings | None = None
    """None: traces are off."""
    tls: TlsFiles | None = None
    """How commands travel between machines; None: in plain text."""
    is_sharded: bool = False
    """Whether entities live in shard hosts, or each in an actor of its own."""
    is_auto: bool = False
    """Whether those that live in shard hosts get actors of their own when they are busy."""

    @property
    def placement(self) -> str:
        """As it is called in settings."""
        if self.is_auto:
            return "auto"
        return "sharded" if self.is_sharded else "dedicated"

"""
Which shards a process may deliver.

Ray will at times run two copies of an actor, and several actors may share a read side's shards.
Who claims a shard last has it: each save of an offset is refused to anyone else, who then lets go
of the shard. A claim that is not renewed for a while may be taken over, and a process that could
not renew its claims for that long delivers nothing until it has.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import Owner, Shard
from cos_ray.ports import Clock, ReadSideControls
from cos_ray.readside.settings import ReadSideSettings

logger = logging.getLogger(__name__)


class Claims:
    """One process's claims to the shards of a read side."""

    def __init__(
        self, settings: ReadSideSettings, owner: Owner, controls: ReadSideControls, clock: Clock
    ) -> None:
        self.owner = owner
        self._settings = settings
        self._controls = controls
        self._clock = clock
        self._confirmed_at = -math.inf
        self._renews_at = math.inf

    @property
    def are_confirmed(self) -> bool:
        """Whether nobody can have taken over what is ours without our letting it go silent."""
        return self._clock.monotonic() < self._confirmed_at + self._settings.silence.total_seconds()

    def renews_at(self) -> float:
        """When to renew next."""
        return self._renews_at

    async def take(self, shards: Collection[Shard]) -> None:
        """Have these shards, whoever had them. Raises JournalUnavailable."""
        now = self._clock.monotonic()
        await self._controls.claim(self._settings.read_side, shards, self.owner)
        self._note(now)

    def begin_renewal(self) -> None:
        """A renewal begins; `renew` is to follow."""
        self._renews_at = math.inf

    async def renew(self, shards: Collection[Shard]) -> Collection[Shard] | None:
        """The shards that are ours now, of these; None when that cannot be learnt."""
        now = self._clock.monotonic()
        settings = self._settings
        try:
            ours = await self._controls.renew(settings.read_side, shards, self.owner, settings.silence)
        except Exception as error:
            surprise = None if isinstance(error, JournalUnavailable) else error
            facts = {"read_side": settings.read_side, "reason": str(error)}
            logger.info("claims not renewed", extra=facts, exc_info=surprise)
            self._renews_at = now + 1.0
            return None
        # Counted from before it was asked: it may have taken long.
        self._note(now)
        return ours

    async def release(self) -> None:
        """Let others have them at once. Raises JournalUnavailable."""
        await self._controls.release(self._settings.read_side, self.owner)

    def _note(self, since: float) -> None:
        self._confirmed_at = since
        self._renews_at = since + self._settings.renewal.total_seconds()

"""
Keeps a read side from handing out, from memory, what an erased entity's events said.

Events may wait here for long: to be tried again, for others to be confirmed, for an operator to
resume. Before one is handed out that was read a while ago, the journal is asked which of the
entities that wait are erased; what those said is then forgotten here, too.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

from cos_ray.domain.erasure import KNOWN_WITHIN
from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import Shard
from cos_ray.ports import Clock, EventSource
from cos_ray.readside.delivery import Delivery
from cos_ray.readside.projection import Projection
from cos_ray.readside.settings import ReadSideSettings

logger = logging.getLogger(__name__)


class Erasures:
    """What one read side knows of erasures: one question at a time, for all its shards."""

    def __init__(
        self,
        settings: ReadSideSettings,
        projections: Mapping[Shard, Projection],
        source: EventSource,
        clock: Clock,
        delivery: Delivery,
        wanted: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._projections = projections
        self._source = source
        self._clock = clock
        self._delivery = delivery
        self._wanted = wanted
        """Called when a question falls due."""
        self._is_due = False
        self._is_asking = False
        self._failures = 0
        self._retry_at = -math.inf

    def let_begin(self, projection: Projection) -> bool:
        """Whether what waits in the shard may be handed out; if not, the journal is asked soon."""
        if projection.known.time + KNOWN_WITHIN.total_seconds() >= self._clock.monotonic():
            return True
        if not self._is_due:
            self._is_due = True
            self._wanted()
        return False

    def due_at(self) -> float:
        """When to ask; never while nobody wants to know or a question is under way."""
        return self._retry_at if self._is_due and not self._is_asking else math.inf

    def begin(self) -> None:
        """A question begins; `ask` is to follow."""
        self._is_asking = True

    async def ask(self) -> None:
        """
        Learn which of the entities that wait are erased, and let what may be delivered begin.

        When the journal does not answer, it is asked again after a while.
        """
        waiting = [p for p in self._projections.values() if p.window.entities()]
        entities = {entity_id for projection in waiting for entity_id in projection.window.entities()}
        now = self._clock.monotonic()
        questions = [(projection, projection.known) for projection in waiting]
        for _, known in questions:
            known.begin_question()
        try:
            erased = await self._source.erased_of(entities)
        except Exception as error:  # noqa: BLE001 - whatever it is, what waits is not given up
            self._put_off(error)
            return
        finally:
            self._is_asking = False
        self._is_due, self._failures, self._retry_at = False, 0, -math.inf
        for _, known in questions:
            known.answered(now)
        for projection in waiting:
            for entity_id in [each for each in projection.window.entities() if each in erased]:
                self._delivery.redact(projection, entity_id)
            self._delivery.release(projection, anew=False)

    def _put_off(self, error: Exception) -> None:
        self._failures += 1
        wait = self._settings.journal_retry.wait(self._failures).total_seconds()
        self._retry_at = self._clock.monotonic() + wait
        facts = {"read_side": self._settings.read_side, "reason": str(error), "retry_in": wait}
        surprise = None if isinstance(error, JournalUnavailable) else error
        logger.warning("read side cannot ask for erasures", extra=facts, exc_info=surprise)

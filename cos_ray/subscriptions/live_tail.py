"""
One loop that reads what is new in the journal, as long as someone listens.

It looks every few milliseconds, and at once when told that something was stored. When the journal
is out of reach it goes on where it was: those who listen notice nothing but a pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from cos_ray.domain.errors import HistoryWentBack, JournalUnavailable
from cos_ray.domain.failure_policy import Backoff
from cos_ray.domain.ids import Offset
from cos_ray.domain.messages import RowIdentity
from cos_ray.domain.watermark import JournalHead, UnreadableRow, Watermark
from cos_ray.ports import Clock, JournalTail
from cos_ray.subscriptions.failover_check import Lost, Told, lost_of
from cos_ray.subscriptions.feed import Feed

logger = logging.getLogger(__name__)

REMEMBERED = 10_000
"""How many of the events told of last are looked for when the journal has gone back."""


@dataclass(frozen=True, slots=True)
class TailPolicy:
    """How often to look."""

    idle: float = 0.03
    """Seconds between two looks when the last one showed nothing new."""
    busy: float = 0.004
    """Seconds between two looks while there is something new, or it waits for someone's commit."""
    page: int = 500
    """How many events are read at once."""
    retry: Backoff = Backoff(first=timedelta(milliseconds=100), longest=timedelta(seconds=2))  # noqa: RUF009
    """How long to wait when the journal does not answer."""
    opens_within: float = 8.0
    """Seconds that someone who begins to listen waits for the journal."""


class LiveTail:
    """Feeds listeners; runs from `start` to `stop`, as often as wanted."""

    def __init__(
        self,
        journal: JournalTail,
        feed: Feed,
        clock: Clock,
        policy: TailPolicy,
        went_back: Callable[[Lost], None],
    ) -> None:
        """`went_back` is called when the journal does not have any more what was told of."""
        self._journal = journal
        self._went_back = went_back
        self._feed = feed
        self._clock = clock
        self._policy = policy
        self._mark = Watermark()
        self._position: Offset | None = None
        self._known: RowIdentity | None = None
        """The event at the position, or the last one before it."""
        self._told: deque[Told] = deque(maxlen=REMEMBERED)
        self._opening: tuple[Offset, RowIdentity | None] | None = None
        """The end of the journal when it was first looked at, until the position is found."""
        self._news = asyncio.Event()
        self._found = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def position(self) -> Offset:
        """Up to where the listeners have been told of everything. Raises JournalUnavailable."""
        if self._position is None:
            raise JournalUnavailable("the end of the journal is looked for")
        return self._position

    def notify(self) -> None:
        """Look now, for something was stored."""
        self._news.set()

    async def start(self) -> None:
        """Run, and return when the end of the journal is found. Raises JournalUnavailable."""
        if self._task is None:
            self._begin()
            self._task = asyncio.create_task(self._run(), name="journal tail")
        if not await self._within(self._policy.opens_within, self._found.wait()):
            raise JournalUnavailable("the end of the journal was not found in time")

    def _begin(self) -> None:
        self._position, self._known = None, None
        self._mark, self._opening = Watermark(), None
        self._told.clear()
        self._found.clear()

    def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        failures = 0
        while True:
            self._news.clear()
            try:
                is_busy = await self._look()
                failures = 0
            except HistoryWentBack:
                await self._go_back()
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, those who listen are not given up
                failures += 1
                await self._wait_after(error, failures)
                continue
            if is_busy:
                await self._clock.sleep(self._policy.busy)
            else:
                await self._within(self._policy.idle, self._news.wait())

    async def _wait_after(self, error: Exception, failures: int) -> None:
        # Another server may answer next, with transactions of other names.
        self._mark, self._opening = Watermark(), None
        wait = self._policy.retry.wait(failures).total_seconds()
        surprise = None if isinstance(error, JournalUnavailable) else error
        facts = {"reason": str(error), "retry_in": wait}
        logger.warning("subscriptions cannot read the journal", extra=facts, exc_info=surprise)
        await self._clock.sleep(wait)

    async def _look(self) -> bool:
        """Take one look and tell of what is new; whether there may be more at once."""
        head = await self._journal.head(self._known)
        self._mark = mark = self._mark.after(head)
        if self._position is None:
            return self._open(head)
        is_settled = mark.newest <= mark.complete
        if mark.complete > self._position:
            await self._tell(self._position, mark.complete)
            return True
        return not is_settled

    def _open(self, head: JournalHead) -> bool:
        """
        Begin where the journal ended at the first look, once that is settled; whether to look again at once.

        All that is stored from then on lies behind it. Only whoever was writing at the first look may
        still store something before it: others may write meanwhile as much as they like.
        """
        if self._opening is None:
            self._opening = head.newest, head.newest_row
        newest, row = self._opening
        if self._mark.complete >= newest:
            self._position, self._known, self._opening = newest, row, None
            if row is not None:
                self._told.append(Told(row))
            self._found.set()
        return True

    async def _go_back(self) -> None:
        """Tell what is lost, and begin anew at the end of the journal as it is now."""
        try:
            there = await self._journal.still_there([told.row for told in self._told])
        except Exception as error:  # noqa: BLE001 - the next look says again that it went back
            await self._wait_after(error, 1)
            return
        lost = lost_of(self._told, there)
        logger.error("the journal went back: subscriptions end", extra={"after_offset": lost.after})
        self._begin()
        self._went_back(lost)

    async def _tell(self, after: Offset, up_to: Offset) -> None:
        while after < up_to:
            events = await self._journal.between(after, up_to, self._policy.page, self._known)
            # From here to the end of the block nothing is awaited: who begins to listen now begins
            # exactly behind what was told.
            for event in events:
                if isinstance(event, UnreadableRow):
                    logger.error("an event cannot be read", extra={"offset": event.offset})
                elif (told := Told.of(event)) is not None:
                    self._told.append(told)
                self._feed.publish(event)
                self._known = event.row or self._known
            after = events[-1].offset if events.has_more else up_to
            self._position = after
            # Let those who were told take it before there is more.
            await asyncio.sleep(0)

    async def _within(self, seconds: float, event: Awaitable[object]) -> bool:
        """Whether this happened in so many seconds."""
        wanted = asyncio.ensure_future(event)
        alarm = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({wanted, alarm}, return_when=asyncio.FIRST_COMPLETED)
            return wanted.done()
        finally:
            wanted.cancel()
            alarm.cancel()

"""
From where on events were stored since a time, whatever the order in which the clocks have dated them.

A server's clock is set back, or another server takes over whose clock is behind: dates do not rise with
offsets then. So all that is dated since is looked through, in an index, for the lowest offset.
"""

from __future__ import annotations

from cos_ray.domain.ids import Offset
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.statements import statement

PAGE = 100_000
"""How many dates one statement looks through, in about a tenth of a second."""

_EARLIEST = 0


async def first_since(connections: Connections, milliseconds: int) -> Offset | None:
    """
    The lowest offset of an event stored since then (milliseconds since 1970); None if there is none.

    Takes about a second for two million events stored since then. Raises JournalUnavailable.
    """
    lowest: int | None = None
    date, place = milliseconds, _EARLIEST
    while True:
        parameters = {"date": date, "place": place, "limit": PAGE}
        rows = await connections.run(statement("first_since"), parameters)
        found, date, place, oldest = rows[0]
        if found is not None:
            lowest = found if lowest is None else min(lowest, found)
        if date is None or lowest == oldest:
            return None if lowest is None else Offset(lowest)

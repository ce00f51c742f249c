"""
A block that may take so long: `asyncio.timeout`, on every Python that this runs on.

Not `asyncio.wait_for`, which until Python 3.12 runs what it waits for in a task of its own: that
costs as much as the rest of a command's way through its entity.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:
    from async_timeout import timeout as time_limit

__all__ = ["time_limit"]

"""What operators want of read sides, and which process has which shard."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from cos_ray.domain.ids import Owner, ReadSideId, Shard
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.statements import statement


class PostgresReadSides:
    """`ReadSideControls` on Chief of State's `read_sides`, and on a table of claims of our own."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def introduce(self, read_side: ReadSideId, shards: Collection[Shard], auto_start: bool) -> None:
        """See `ReadSideControls.introduce`."""
        parameters = {"read_side": read_side, "shards": _texts(shards), "paused": not auto_start}
        await self._connections.run(statement("introduce_read_side"), parameters)

    async def paused(self, read_side: ReadSideId) -> Collection[Shard]:
        """See `ReadSideControls.paused`."""
        rows = await self._connections.run(statement("paused_shards"), {"read_side": read_side})
        return {Shard(int(shard)) for (shard,) in rows if shard.isdecimal()}

    async def pause(self, read_side: ReadSideId, shards: Collection[Shard], paused: bool) -> None:
        """See `ReadSideControls.pause`."""
        parameters = {"read_side": read_side, "shards": _texts(shards), "paused": paused}
        await self._connections.run(statement("pause_shards"), parameters)

    async def claim(self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner) -> None:
        """See `ReadSideControls.claim`."""
        parameters = {"read_side": read_side, "shards": sorted(shards), "owner": owner}
        await self._connections.run(statement("claim_shards"), parameters)

    async def renew(
        self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner, silence: timedelta
    ) -> Collection[Shard]:
        """See `ReadSideControls.renew`."""
        parameters = {"read_side": read_side, "shards": sorted(shards), "owner": owner, "silence": silence}
        rows = await self._connections.run(statement("renew_claims"), parameters)
        return {Shard(shard) for (shard,) in rows}

    async def release(self, read_side: ReadSideId, owner: Owner) -> None:
        """See `ReadSideControls.release`."""
        await self._connections.run(statement("release_claims"), {"read_side": read_side, "owner": owner})


def _texts(shards: Collection[Shard]) -> list[str]:
    return [str(shard) for shard in sorted(shards)]

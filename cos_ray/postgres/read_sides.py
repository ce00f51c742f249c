"""What operators want of read sides, and which process has which shard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta

from cos_ray.domain.ids import Offset, Owner, ReadSideId, ReleaseId, Shard
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.statements import statement
from cos_ray.system.process_identity import is_surely_gone


class PostgresReadSides:
    """`ReadSideControls` on Chief of State's `read_sides`, and on a table of claims of our own."""

    def __init__(self, connections: Connections, is_gone: Callable[[Owner], bool] = is_surely_gone) -> None:
        self._connections = connections
        self._is_gone = is_gone

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

    async def accept_losses(self, read_side: ReadSideId, up_to: Mapping[Shard, Offset]) -> None:
        """See `ReadSideControls.accept_losses`."""
        shards = sorted(up_to)
        parameters = {
            "read_side": read_side,
            "shards": shards,
            "up_tos": [up_to[shard] for shard in shards],
        }
        await self._connections.run(statement("accept_losses"), parameters)

    async def enlist(self, release: ReleaseId) -> LeaseRank:
        """See `ReadSideControls.enlist`."""
        rows = await self._connections.run(statement("enlist_read_side"), {"release": release})
        generation, run = rows[0]
        return LeaseRank(generation, True, run)

    async def keep(self, read_side: ReadSideId, owner: Owner, lasts: timedelta) -> Mapping[Shard, bool]:
        """See `ReadSideControls.keep`."""
        parameters = {"read_side": read_side, "owner": owner, "lasts": lasts}
        rows = await self._connections.run(statement("keep_claims"), parameters)
        return {Shard(shard): is_wanted for shard, is_wanted in rows}

    async def take(
        self,
        read_side: ReadSideId,
        shards: Collection[Shard],
        owner: Owner,
        standing: LeaseRank,
        lasts: timedelta,
    ) -> Collection[Shard]:
        """See `ReadSideControls.take`."""
        if standing.at_home:
            # Who looks after others' shards waits: they are about to be started again.
            await self._release_of_the_gone(read_side, shards)
        parameters = _claim(read_side, shards, owner, standing, lasts)
        rows = await self._connections.run(statement("take_shards"), parameters)
        return {Shard(shard) for (shard,) in rows}

    async def ask(
        self,
        read_side: ReadSideId,
        shards: Collection[Shard],
        owner: Owner,
        standing: LeaseRank,
        lasts: timedelta,
    ) -> None:
        """See `ReadSideControls.ask`."""
        parameters = _claim(read_side, shards, owner, standing, lasts)
        await self._connections.run(statement("ask_for_shards"), parameters)

    async def release(
        self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner, run: int | None = None
    ) -> None:
        """See `ReadSideControls.release`."""
        parameters = {"read_side": read_side, "shards": sorted(shards), "owner": owner, "run": run}
        await self._connections.run(statement("release_claims"), parameters)

    async def _release_of_the_gone(self, read_side: ReadSideId, shards: Collection[Shard]) -> None:
        """Give up claims in the place of processes that cannot do so any more."""
        parameters = {"read_side": read_side, "shards": sorted(shards)}
        for (holder,) in await self._connections.run(statement("claim_holders"), parameters):
            if self._is_gone(Owner(holder)):
                await self.release(read_side, shards, Owner(holder))


def _claim(
    read_side: ReadSideId, shards: Collection[Shard], owner: Owner, standing: LeaseRank, lasts: timedelta
) -> dict[str, object]:
    return {
        "read_side": read_side,
        "shards": sorted(shards),
        "owner": owner,
        "generation": standing.generation,
        "at_home": standing.at_home,
        "run": standing.run,
        "lasts": lasts,
    }


def _texts(shards: Collection[Shard]) -> list[str]:
    return [str(shard) for shard in sorted(shards)]

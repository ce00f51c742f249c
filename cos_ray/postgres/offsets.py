"""How far each read side has come, in Chief of State's own table."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from cos_ray.domain.errors import HistoryWentBack
from cos_ray.domain.ids import Offset, Owner, ReadSideId, Shard
from cos_ray.domain.messages import RowIdentity
from cos_ray.ports import NOTHING_KNOWN
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.database import Database
from cos_ray.postgres.identities import known_rows
from cos_ray.postgres.statements import statement

_NUMBER = re.compile(r"[0-9]{1,18}")


class PostgresOffsets:
    """
    `OffsetStore` on `read_side_offsets`.

    Its commits do not wait for the disk: when the server crashes, the last moment's events are
    delivered again, as "at least once" allows.
    """

    def __init__(self, database: Database) -> None:
        self._connections = Connections(
            database, at_least=0, at_most=1, session={"synchronous_commit": "off"}
        )

    async def open(self) -> None:
        """Start; does not wait for the database."""
        await self._connections.open()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._connections.close()

    async def load(self, read_side: ReadSideId) -> Mapping[Shard, Offset | None]:
        """See `OffsetStore.load`."""
        rows = await self._connections.run(statement("load_offsets"), {"read_side": read_side})
        return {Shard(int(shard)): _offset(text) for shard, text in rows if _NUMBER.fullmatch(shard)}

    async def save(
        self,
        read_side: ReadSideId,
        offsets: Mapping[Shard, Offset],
        owner: Owner,
        known: Mapping[Shard, RowIdentity] = NOTHING_KNOWN,
    ) -> Collection[Shard]:
        """See `OffsetStore.save`."""
        if not offsets:
            return ()
        shards = sorted(offsets)
        rows = await self._connections.run(
            statement("save_offsets"),
            {
                "read_side": read_side,
                "shards": shards,
                "offsets": [str(offsets[shard]) for shard in shards],
                "owner": owner,
                **known_rows([known.get(shard) for shard in shards]),
            },
        )
        if went_back := [Shard(int(shard)) for shard, is_saved in rows if not is_saved]:
            raise HistoryWentBack(went_back)
        return set(shards) - {Shard(int(shard)) for shard, _ in rows}


def _offset(text: str) -> Offset | None:
    return Offset(int(text)) if _NUMBER.fullmatch(text.strip()) else None

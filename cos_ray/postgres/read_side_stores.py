"""All that is remembered of read sides, over three small pools of connections."""

from __future__ import annotations

from cos_ray.postgres.connections import Connections
from cos_ray.postgres.database import Database
from cos_ray.postgres.dead_letters import PostgresDeadLetters
from cos_ray.postgres.offsets import PostgresOffsets
from cos_ray.postgres.positions import PostgresPositions
from cos_ray.postgres.read_sides import PostgresReadSides


class PostgresReadSideStores:
    """Opened and closed together."""

    def __init__(self, database: Database) -> None:
        # Each statement says by which index it finds its rows, in their order.
        session = {"enable_sort": "off"}
        self._connections = Connections(database, at_least=0, at_most=2, session=session)
        self.offsets = PostgresOffsets(database)
        # Claims are renewed in time, however many ask for something else.
        self._claiming = Connections(database, at_least=0, at_most=1, session=session)
        self.controls = PostgresReadSides(self._claiming)
        self.letters = PostgresDeadLetters(self._connections)
        self.places = PostgresPositions(self._connections)

    async def open(self) -> None:
        """Start; does not wait for the database."""
        await self._claiming.open()
        await self._connections.open()
        await self.offsets.open()

    async def close(self) -> None:
        """Let go of the connections."""
        await self.offsets.close()
        await self._connections.close()
        await self._claiming.close()

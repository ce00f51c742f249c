"""A write handler of a few lines, for tests: it counts, and fails when told to."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from cos_ray.domain.decisions import Decision, decide
from cos_ray.domain.errors import CosError
from cos_ray.domain.messages import EMPTY_STATE, NOTHING, EntityState, Headers, Meta, Packed


@dataclass
class CountingWriteHandler:
    """
    Keeps a number. Command b"3" leads to three events of one each, b"0" to none.

    What `failures` holds is raised by the next calls of either function, one each (None: that
    call goes well). A call waits while `gate` is cleared.
    """

    failures: deque[CosError | None] = field(default_factory=deque)
    commands: list[tuple[Packed, EntityState, Headers]] = field(default_factory=list)
    events: list[tuple[Packed, Packed, Meta]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def handle_command(
        self,
        command: Packed,
        prior: EntityState,
        headers: Headers,
        timeout: float,
        first: Meta | None = None,
    ) -> Decision:
        """As many events as the command says."""
        self.commands.append((command, prior, headers))
        await self._pass()
        return decide([Packed(b"+1")] * int(command), NOTHING)

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """One more."""
        self.events.append((event, prior_state, meta))
        await self._pass()
        return Packed(str(count_of(prior_state) + 1).encode())

    async def _pass(self) -> None:
        await self.gate.wait()
        failure = self.failures.popleft() if self.failures else None
        if failure is not None:
            raise failure


def count_of(state: Packed) -> int:
    """The number a state of this handler stands for."""
    return 0 if state == EMPTY_STATE else int(state)

"""Two services on one machine, which know nothing of each other."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from cos_ray.samples.bank.client import Bank, BankError
from tests.running_service import RunningService


async def test_a_neighbour_never_answers_for_the_other(
    service: RunningService, own_service: RunningService
) -> None:
    own_service.start()
    async with (
        grpc.aio.insecure_channel(service.address) as here,
        grpc.aio.insecure_channel(own_service.address) as there,
    ):
        await Bank(here).open("neighbour", "Here")
        for _ in range(50):
            assert (await Bank(here).account("neighbour")).owner == "Here"
            with pytest.raises(BankError, match="no such account"):
                await Bank(there).account("neighbour")
    assert own_service.stop() == 0

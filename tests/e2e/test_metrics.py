"""What Prometheus finds at the running service, and that the dashboard's and the alerts' queries fit it."""

from __future__ import annotations

import uuid

import grpc.aio
import pytest

from cos_ray.samples.bank.client import Bank, BankError
from cos_ray.telemetry.catalogue import LIVE_OCTETS, METRICS, exposed_names
from tests.support.observability import Query, Scrape, faults, queries
from tests.support.running_service import RunningService, eventually

NOT_THERE = {LIVE_OCTETS.name: "with dedicated placement nobody adds it up"}
"""What this service has no occasion to export."""

SOON = 90.0
"""Seconds for a count to reach the page: Ray collects every 10 s by default."""


async def test_what_is_done_is_counted_by_outcome_and_stage_and_every_query_fits(service: RunningService):
    before = Scrape.of(service.metrics)
    ada = f"ada-{uuid.uuid4().hex}"
    async with grpc.aio.insecure_channel(service.address) as channel:
        bank = Bank(channel, timeout=30)
        await bank.open(ada, "Ada", 20_00)
        for _ in range(3):
            await bank.deposit(ada, 1_00)
        with pytest.raises(BankError):
            await bank.withdraw(ada, 1_000_00)
    after = before
    of_each = ("total", "queue", "handle_command")

    def rise(name: str, **labels: str) -> float:
        return after.total(f"ray_{name}", **labels) - before.total(f"ray_{name}", **labels)

    def is_counted() -> bool:
        nonlocal after
        after = Scrape.of(service.metrics)
        return (
            rise("cos_commands_total", outcome="accepted") >= 4
            and rise("cos_commands_total", outcome="invalid_argument") >= 1
            and rise("cos_command_stage_seconds_count_total", stage="append") >= 4
            # Each process tells of its own from time to time, and not all at once.
            and all(rise("cos_command_stage_seconds_count_total", stage=stage) >= 5 for stage in of_each)
            and rise("cos_read_side_deliveries_total", read_side="balances") >= 5
            and rise("cos_activations_total") >= 1
            and rise("cos_journal_batch_seconds_count_total") >= 4
        )

    eventually(is_counted, within=SOON)
    for stage in of_each:
        assert rise("cos_command_stage_seconds_bucket_total", stage=stage, le="+Inf") == rise(
            "cos_command_stage_seconds_count_total", stage=stage
        )
        assert rise("cos_command_stage_seconds_sum_total", stage=stage) > 0
    assert after.total("ray_cos_live_entities") >= 1
    assert after.total("ray_cos_read_side_shards", read_side="balances", state="running") > 0

    exported = after.labels()
    missing = [
        name
        for metric in METRICS
        if metric.name not in NOT_THERE
        for name in exposed_names(metric)
        if name not in exported
    ]
    assert missing == []
    # No label of ours tells entities apart; Ray's tell processes apart, but not those of entities.
    assert ada not in {value for sample in after.samples for value in sample.labels.values()}
    processes = {
        s.labels["WorkerId"] for s in after.samples if s.name == "ray_cos_command_stage_seconds_count_total"
    }
    assert len(processes) <= 2
    assert _faults(list(queries()), exported) == []
    planted = Query("planted", "sum (rate(ray_cos_comands_total[1m]))")
    assert _faults([planted], exported) == ["planted asks for ray_cos_comands_total"]


def _faults(asked: list[Query], exported: dict[str, set[str]]) -> list[str]:
    return [line for line in faults(asked, exported) if not any(name in line for name in NOT_THERE)]

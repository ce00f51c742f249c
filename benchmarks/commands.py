"""
Commands per second of a whole service with the bank's handlers, as a client sees it.

Starts everything on this machine and drives it from this process with a fixed number of commands
in flight. Each repetition gives one figure; the median and the spread are printed, and where the
CPU time went.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated

import grpc.aio
import psutil
import typer
from rich.console import Console
from rich.table import Table

from cos_ray.samples.bank.client import Bank
from tests.running_service import BankHandlers, RunningService

Entities = Annotated[int, typer.Option(help="How many accounts are used.")]
InFlight = Annotated[int, typer.Option(help="How many commands are under way at once.")]
Commands = Annotated[int, typer.Option(help="How many commands one repetition sends.")]
Repetitions = Annotated[int, typer.Option(help="How often it is measured.")]


def main(
    entities: Entities = 40, in_flight: InFlight = 64, commands: Commands = 2000, repetitions: Repetitions = 5
) -> None:
    """Measure commands per second, latency, activation and CPU per command."""
    with tempfile.TemporaryDirectory() as directory:
        handlers = BankHandlers(Path(directory))
        settings = {**handlers.settings, "COS_COMMAND_HANDLER_TIMEOUT": "60s", "LOG_LEVEL": "WARN"}
        service = RunningService(Path(directory) / "data", settings)
        try:
            service.start()
            asyncio.run(_measure(service, entities, in_flight, commands, repetitions))
        finally:
            service.end()
            handlers.stop()


async def _measure(
    service: RunningService, entities: int, in_flight: int, commands: int, repetitions: int
) -> None:
    console = Console()
    async with grpc.aio.insecure_channel(service.address) as channel:
        bank = Bank(channel, timeout=120)
        activations = []
        for number in range(entities):
            begun = perf_counter()
            await bank.open(f"account-{number}", "Bench")
            activations.append(perf_counter() - begun)
        await _send(bank, entities, in_flight, commands // 4)  # warm-up
        rates, alone, latencies = [], [], []
        before = _cpu_times()
        for _ in range(repetitions):
            begun = perf_counter()
            latencies += await _send(bank, entities, in_flight, commands)
            rates.append(commands / (perf_counter() - begun))
        spent = _cpu_times() - before
        for _ in range(repetitions):
            alone.append(median(await _send(bank, 1, 1, 100)))
    table = Table("what", "median", "from", "to", title=f"{entities} entities, {in_flight} in flight")
    table.add_row("commands per second", *_three(rates, 1, ".0f"))
    table.add_row("latency in flight, ms (over all commands)", *_three(latencies, 1000, ".0f"))
    table.add_row("latency alone, ms (medians)", *_three(alone, 1000, ".1f"))
    table.add_row("activation of an entity, s", *_three(activations, 1, ".2f"))
    console.print(table)
    processes = Table("process", "CPU per command, us")
    for name, seconds in spent.most_common(8):
        processes.add_row(name, f"{seconds / (commands * repetitions) * 1e6:.0f}")
    console.print(processes)


async def _send(bank: Bank, entities: int, in_flight: int, commands: int) -> list[float]:
    """Send so many commands; the seconds each took."""
    numbers = iter(range(commands))
    latencies = []

    async def client() -> None:
        for number in numbers:
            begun = perf_counter()
            await bank.deposit(f"account-{number % entities}", 1)
            latencies.append(perf_counter() - begun)

    await asyncio.gather(*(client() for _ in range(in_flight)))
    return latencies


def _cpu_times() -> Counter[str]:
    """Seconds of CPU so far, by kind of process; this one generates the load."""
    spent: Counter[str] = Counter()
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        times = process.cpu_times()
        spent["load generator" if process == me else process.name()] += times.user + times.system
    return spent


def _three(values: list[float], scale: float, form: str) -> list[str]:
    return [format(scale * value, form) for value in (median(values), min(values), max(values))]


if __name__ == "__main__":
    typer.run(main)

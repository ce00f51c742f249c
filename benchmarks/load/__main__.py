"""
The load generator's process: reads jobs from standard input, a line of JSON each, and answers with one.

    python -m benchmarks.load

It stays for a whole run, so that nothing is warm for one contestant and cold for the next.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
from collections.abc import Callable

import uvloop

from benchmarks.load.http2 import Connection, Request, connect
from benchmarks.load.job import Done, Job
from benchmarks.load.requests import Requests, in_turn
from benchmarks.load.timing import Tally, at_rate, in_flight

Key = tuple[str, str, int, int]
prepared: dict[Key, Callable[[], Request]] = {}


async def main() -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        done = await run(Job.from_json(line))
        print(json.dumps(done), flush=True)


async def run(job: Job) -> Done:
    """Do one job."""
    host, port = job.address.rsplit(":", 1)
    connections = [
        await connect(host, int(port), is_grpc=job.style.is_grpc) for _ in range(min(4, job.in_flight))
    ]
    try:
        next_request = requests_of(job)
        # What there is to collect, is collected now; what follows makes no cycles.
        gc.collect()
        gc.freeze()
        gc.disable()
        used = cpu()
        tally = await measured(job, connections, next_request)
        used = cpu() - used
    finally:
        gc.enable()
        gc.unfreeze()
        for connection in connections:
            connection.close()
    return {
        "seconds": tally.seconds,
        "latencies": list(tally.latencies),
        "failures": dict(tally.failures),
        "cpu": used,
    }


async def measured(
    job: Job, connections: list[Connection], next_request: Callable[[], Request | None]
) -> Tally:
    """Send what the job says, as it says."""
    if job.rate is not None:
        return await at_rate(connections, next_request, job.rate, job.seconds)
    return await in_flight(connections, next_request, job.in_flight, job.seconds)


def requests_of(job: Job) -> Callable[[], Request | None]:
    """Deposits in turn, of as many accounts as there are; or one opening each."""
    make = Requests(job.style, job.address)
    accounts = (f"{job.prefix}-{number}" for number in range(job.accounts))
    if job.opens:
        # Encoded on the way: a hundred thousand would have to be kept.
        opening = (make.open(account, job.owner_bytes) for account in accounts)
        return lambda: next(opening, None)
    key = (job.style.value, job.address, job.accounts, hash(job.prefix))
    if key not in prepared:
        prepared[key] = in_turn([make.deposit(account) for account in accounts])
    return prepared[key]


def cpu() -> float:
    """Seconds of CPU this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    uvloop.run(main())

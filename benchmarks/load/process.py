"""The load generator, seen from the process that gives it jobs."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.load.job import Done, Job
from tests.support.running_service import dying_with_us, plain_environment


class LoadGenerator:
    """A process that sends requests; it costs CPU only while it does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *dying_with_us(), "-m", "benchmarks.load"],
            env=plain_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, job: Job) -> Done:
        """Do a job and return what came of it. Raises RuntimeError when the process ends instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(job.to_json() + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load generator ended with {self._process.wait()}")
        done: Done = json.loads(line)
        return done

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

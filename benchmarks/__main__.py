"""`python -m benchmarks`: the service against itself and its peers; see `benchmarks.campaign`."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec

NEEDED = ("hpack", "hypercorn", "matplotlib", "restate", "uvloop")

if any(find_spec(name) is None for name in NEEDED):
    uv = shutil.which("uv")
    if uv is None or "COS_RAY_BENCHMARKS" in os.environ:
        sys.exit("benchmarks need more than the service does: uv sync --group benchmarks")
    # Once only: a group that does not bring them would lead here again.
    os.environ["COS_RAY_BENCHMARKS"] = "1"
    os.execv(uv, [uv, "run", "--group", "benchmarks", "python", "-m", "benchmarks", *sys.argv[1:]])

import typer  # noqa: E402

from benchmarks.campaign import main  # noqa: E402

typer.run(main)

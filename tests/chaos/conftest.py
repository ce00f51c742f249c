"""How long, and with which seed: the variables CHAOS_SECONDS and CHAOS_SEED."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture
def seconds() -> float:
    """How long faults are made."""
    return float(os.environ.get("CHAOS_SECONDS", "15"))


@pytest.fixture
def seed() -> int:
    """Printed, so that a failed run can be had again."""
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
    print(f"CHAOS_SEED={seed}")
    return seed

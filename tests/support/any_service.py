"""
The service for tests that do not mind who has brought it up.

COS_TESTS_SERVICE says who: `launched` by `cos-ray serve` on a Ray of its own (the default), or `deployed` by
`serve deploy` on three nodes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.support.running_deployment import DeployedService
from tests.support.running_service import RunningService


def any_service(data_dir: Path, settings: Mapping[str, str]) -> RunningService | DeployedService:
    """A service with these settings, to be started."""
    match os.environ.get("COS_TESTS_SERVICE", "launched"):
        case "launched":
            return RunningService(data_dir, settings)
        case "deployed":
            # Our file for deployments has another placement than services have by default.
            return DeployedService(data_dir, {"COS_ENTITY_PLACEMENT": "dedicated", **settings})
        case other:
            raise ValueError(f"COS_TESTS_SERVICE is {other!r}; allowed: launched, deployed")

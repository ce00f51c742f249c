"""Imported by Ray in the main thread of each new worker; see `quiet_worker`."""

from __future__ import annotations

from cos_ray.cluster import quiet_worker

quiet_worker.install()

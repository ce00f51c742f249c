"""Imported by Ray in the main thread of each new worker; see `quiet_worker`."""

from __future__ import annotations

from cos_ray.ray_internals import worker_sleep

worker_sleep.install()

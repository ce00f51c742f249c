"""The coordinator of entities that have a process each, with what these are built by."""

from __future__ import annotations

from cos_ray.bootstrap.entity import build_entity
from cos_ray.bootstrap.entity_spec import EntitySpec
from cos_ray.cluster.process_coordinator_actor import ProcessCoordinatorSpec
from cos_ray.transport.lazy_pickle import pickle_lazily


def process_coordinator_spec(spec: EntitySpec) -> ProcessCoordinatorSpec:
    """What it takes to start the coordinator; the same whoever starts it."""
    return ProcessCoordinatorSpec(
        spec.namespace, pickle_lazily(build_entity, spec), spec.journal, spec.limits, spec.logs, spec.tls
    )
